from deblurkit.analysis.several_logs import analyze_all


def ranks_of(make_run, *, slow=None, told=True, folder="run", steps=300):
    """Three ranks; one takes 60 ms more for its forward pass, and the others wait for it inside backward."""
    logs = []
    for rank in range(3):
        run = make_run(steps, seed=rank)
        waits = 1.0 if rank == slow or slow is None else 61.0
        if rank == slow:
            run.slow_down("forward", 1.6)
        log = run.log(rank=rank, world_size=3, waiting=waits, folder=folder)
        if not told:
            del log.times["backward/all_reduce"]
        logs.append(log)
    return logs


def found(reports):
    return [[(finding.id, finding.rank) for finding in report.findings] for report in reports]


def test_the_slow_rank_s_report_has_it_and_the_others_refer_to_it(make_run):
    reports = analyze_all(ranks_of(make_run, slow=1))
    assert found(reports) == [[], [("straggler", 1)], []]
    [finding] = reports[1].findings
    assert finding.severity == "warning"  # 60 of 384 ms
    assert finding.evidence.startswith("Rank 1 is the slowest: ")
    assert finding.cause == "In every step all ranks wait for the slowest one."
    for rank in (0, 2):
        assert reports[rank].notes[0].startswith("The ranks wait for rank 1: ")
    assert not any("wait for rank" in note for note in reports[1].notes)


def test_ranks_that_do_not_tell_how_long_they_wait(make_run):
    assert found(analyze_all(ranks_of(make_run, slow=2, told=False))) == [[], [], [("straggler", 2)]]
    assert found(analyze_all(ranks_of(make_run, told=False))) == [[], [], []]


def test_waiting_inside_backward_is_not_taken_for_recomputation(make_run):
    """All wait 31 ms for rank 1, under 10 % of a step; theirs is 2.9 times forward, and looks recomputed."""
    logs = []
    for rank in range(3):
        run = make_run(300, seed=rank)
        run.slow_down("backward", 1.25 if rank == 1 else 1.4)  # 256 and 287 ms, of which 31 ms are waiting
        logs.append(run.log(rank=rank, world_size=3))
    assert found(analyze_all([logs[0]])) == [[("recompute", None)]]  # for all that one log can tell
    reports = analyze_all(logs)
    assert found(reports) == [[], [], []]
    told = [any("not on rank 1" in note for note in report.notes) for report in reports]
    assert told == [True, False, True]


def test_recomputation_on_all_ranks_is_told_of_all(make_run):
    logs = []
    for rank in range(3):
        run = make_run(300, seed=rank)
        run.slow_down("backward", 1.5)
        logs.append(run.log(rank=rank, world_size=3))
    assert found(analyze_all(logs)) == [[("recompute", None)]] * 3
    alone = make_run(9)  # too short to tell anything
    logs.append(alone.log(rank=3, world_size=4))
    assert found(analyze_all(logs)) == [*[[("recompute", None)]] * 3, []]


def test_a_run_in_another_folder_is_another_run(make_run):
    logs = ranks_of(make_run, slow=1, folder="a") + ranks_of(make_run, folder="b")
    reports = analyze_all(logs)
    assert found(reports) == [[], [("straggler", 1)], [], [], [], []]
    assert not any("wait for rank" in note for report in reports[3:] for note in report.notes)


def test_communication_that_a_slow_rank_explains_is_not_told_twice(make_run):
    logs = ranks_of(make_run, slow=1)
    alone = analyze_all([logs[0]])
    assert found(alone) == [[("communication", None)]]  # 61 of 384 ms, for all that one log can tell
    assert found(analyze_all(logs))[0] == []


def test_one_log_and_none():
    assert analyze_all([]) == []
