"""The search on simulated machines: what it tries, what it says at any moment, what it makes of failures."""

import dataclasses
import itertools
from types import SimpleNamespace

import numpy as np
import pytest

from deblurkit.tuning.recommend.front import is_usable, pareto_front, path_between
from deblurkit.tuning.recommend.phase_posterior import PhasePosterior
from deblurkit.tuning.recommend.records import Budget, Candidate, Trial
from deblurkit.tuning.recommend.search import Search

GIB = 2**30


def held(peak_bytes, host_bytes=None, *, from_="predicted"):
    return SimpleNamespace(peak_bytes=peak_bytes, host_bytes=host_bytes, is_bound=False, from_=from_)


@pytest.fixture
def search_of(space, work, prior, memory, machine_of):
    """Return a function that makes a search of the space or of some candidates; the first is the start."""

    def make(machine=None, *, run=None, candidates=None, bytes_of=memory, on_trial=None, work=work, **budget):
        given = space if candidates is None else candidates
        told = {} if on_trial is None else {"on_trial": on_trial}
        return Search(
            given,
            memory={key: peak if hasattr(peak, "from_") else held(peak) for key, peak in bytes_of.items()},
            work=work,
            budget=Budget(**budget),
            run=run or (machine or machine_of(0)).run,
            prior=prior,
            **told,
        )

    return make


def ended(search):
    while search.step() is not None:
        pass
    return search


def front_of(search):
    return pareto_front(search.rows(), search.best())


def path_of(search, start):
    rows = search.rows()
    return path_between(rows, next(row for row in rows if row.candidate is start), search.best())


def true_share(search, machine, memory, budget):
    """Return the true speed of the answer, as a share of the true best's of those that fit."""
    best = min(machine.seconds[key] for key, peak in memory.items() if peak <= budget)
    return best / machine.seconds[search.best().candidate.key]


@pytest.mark.parametrize("seed", [500, 501])
def test_ten_trials_come_near_the_true_best(search_of, machine_of, memory, seed):
    machine, budget = machine_of(seed, noise=0.01), 4 * GIB
    search = ended(search_of(machine, device_bytes=budget))
    assert len(search.trials) <= 10
    assert true_share(search, machine, memory, budget) > 0.95


@pytest.mark.slow
@pytest.mark.parametrize("budget", [2.2, 4.0, 17.0])
def test_on_95_of_100_machines_the_answer_is_within_5_percent(search_of, machine_of, memory, budget):
    shares = []
    for seed in range(100):
        machine = machine_of(seed, noise=0.02)
        search = ended(search_of(machine, device_bytes=int(budget * GIB)))
        assert len(search.trials) <= 10
        shares.append(true_share(search, machine, memory, budget * GIB))
    assert np.mean(np.array(shares) >= 0.95) >= 0.95


def test_the_start_is_tried_first_and_what_does_not_fit_never(search_of, space, memory):
    search = ended(search_of(device_bytes=4 * GIB, trials=6))
    keys = [trial.key for trial in search.trials]
    assert keys[0] == space[0].key
    assert len(set(keys)) == 6
    assert max(memory[key] for key in keys) <= 4 * GIB
    assert search.stopped == "6 trials made, as many as may be"


def test_a_start_that_does_not_fit_gives_way_to_the_nearest_that_does(search_of, space, memory):
    last = next(each for each in space if each.choices == {**space[-2].choices, "recompute": "none"})
    candidates = [dataclasses.replace(last, settings={}), *(each for each in space if each is not last)]
    bytes_of = {**memory, candidates[0].key: memory[last.key]}
    assert bytes_of[candidates[0].key] > 12 * GIB
    search = search_of(candidates=candidates, bytes_of=bytes_of, device_bytes=8 * GIB)
    first = search.step()
    tried = next(each for each in space if each.key == first.key)
    apart = [axis for axis, word in tried.choices.items() if last.choices[axis] != word]
    assert len(apart) == 1


def test_rows_are_there_before_any_trial_and_after_it(search_of, space):
    search = search_of(device_bytes=4 * GIB)
    for _ in range(2):
        rows = search.rows()
        assert {row.candidate.key for row in rows} == {each.key for each in space}
        assert rows[0].candidate.key == search.best().candidate.key
        rates = [row.samples_per_second for row in rows[1:] if is_usable(row)]
        assert rates == sorted(rates, reverse=True)
        assert all(row.verdict for row in rows)
        assert all(not is_usable(row) for row in rows[1 + len(rates) :])
        search.step()
    assert search.best().estimate.is_measured


def test_memory_that_runs_out_rules_out_all_that_need_as_much(search_of, space, memory, machine_of):
    machine, truth = machine_of(3, noise=0.01), 3 * GIB

    def run(candidate):
        if memory[candidate.key] > truth:
            return Trial(candidate.key, "out of memory", "3.00 GiB were there", 5.0, ran_out="device")
        return machine.run(candidate)

    search = ended(search_of(run=run, device_bytes=20 * GIB))
    refused = [memory[each.key] for each in search.trials if each.outcome == "out of memory"]
    assert refused
    assert refused == sorted(set(refused), reverse=True)  # never one as large as one that ran out
    assert memory[search.best().candidate.key] <= truth
    rows = {row.candidate.key: row for row in search.rows()}
    assert all(not rows[key].fits for key, peak in memory.items() if peak >= min(refused))
    verdicts = {row.verdict for row in rows.values() if row.trial and row.trial.outcome == "out of memory"}
    assert verdicts == {"out of memory when tried: 3.00 GiB were there"}


def test_how_much_memory_there_is_is_found_by_about_halving(search_of, space, memory, machine_of):
    """As where a batch system gives far less than was said: 2 GiB, of which 16.8 are asked at first."""
    truth, machine = 2 * GIB, machine_of(4, noise=0.01)
    start = max(space, key=lambda each: memory[each.key])
    others = [each for each in space if each is not start]
    run = running_out(machine, lambda candidate: memory[candidate.key] > truth)
    search = ended(search_of(run=run, candidates=[start, *others]))
    needed = [memory[trial.key] for trial in search.trials]
    out = [trial.outcome == "out of memory" for trial in search.trials]
    first = out.index(False)
    assert all(after <= 0.6 * before for before, after in itertools.pairwise(needed[: first + 1]))
    assert first <= 5 and out.count(True) <= 6
    fastest = min(machine.seconds[key] for key, peak in memory.items() if peak <= truth)
    assert search.best().fits and machine.seconds[search.best().candidate.key] <= 1.05 * fastest


@pytest.mark.parametrize("outcome", ["timed out", "killed", "failed"])
def test_a_choice_whose_trials_fail_does_not_take_all_trials(search_of, machine_of, outcome):
    machine = machine_of(6, noise=0.01)

    def run(candidate):
        if candidate.choices["optimizer"] == "adamw8bit":
            return Trial(candidate.key, outcome, "", 5.0)
        return machine.run(candidate)

    search = ended(search_of(run=run))
    failed = [trial for trial in search.trials if trial.outcome == outcome]
    assert len(failed) <= 3
    assert search.best().candidate.choices["optimizer"] == "adamw"
    assert all(
        row.verdict.startswith(f"{outcome} when tried") for row in search.rows() if row.trial in failed
    )


def test_a_search_goes_on_when_its_first_trials_fail(search_of, machine_of):
    machine, numbers = machine_of(6), itertools.count()

    def run(candidate):
        is_first = next(numbers) < 2
        return Trial(candidate.key, "failed", "bad luck", 5.0) if is_first else machine.run(candidate)

    search = ended(search_of(run=run, trials=5))
    assert [trial.outcome for trial in search.trials][:3] == ["failed", "failed", "measured"]
    assert search.best().estimate.is_measured


def test_an_interrupted_trial_leaves_the_answer_so_far(search_of, machine_of, space):
    machine, numbers = machine_of(6), itertools.count()

    def run(candidate):
        if next(numbers) == 2:
            raise KeyboardInterrupt
        return machine.run(candidate)

    search = search_of(run=run)
    with pytest.raises(KeyboardInterrupt):
        ended(search)
    assert len(search.trials) == 2
    assert search.best().trial in search.trials
    assert path_of(search, space[0])[-1].candidate is search.best().candidate


def test_each_trial_is_told_with_the_best_after_it(search_of):
    told = []
    search = search_of(trials=3, on_trial=lambda *said: told.append(said))
    ended(search)
    assert [trial for _, trial, _ in told] == search.trials
    assert all(candidate.key == trial.key for candidate, trial, _ in told)
    assert told[-1][2] == search.best()


def test_why_it_ends(search_of, space, memory, machine_of):
    assert ended(search_of(device_bytes=GIB // 4)).stopped == "nothing fits"
    assert ended(search_of(trials=0)).stopped == "no trials are to be made"
    assert ended(search_of(seconds=25.0)).stopped == "the time for trials is spent: 30.0 s of 25.0 s"
    assert ended(search_of(candidates=space[:2])).stopped == "all that fit were tried"


def test_it_ends_early_where_nothing_can_be_much_faster(search_of, machine_of, space):
    machine = machine_of(8, noise=0.002)
    alike = [space[0], *(each for each in space if each.batch_size == 1 and each is not space[0])]
    for phases in machine.phases.values():
        phases |= {"optimizer": 1e-4}
    slow = {key: {**each, "backward": 50 * each["backward"]} for key, each in machine.phases.items()}
    machine.phases |= {each.key: slow[each.key] for each in alike if each.choices["recompute"] != "none"}
    machine.seconds = {key: sum(phases.values()) for key, phases in machine.phases.items()}
    search = ended(search_of(machine, candidates=alike, trials=12))
    assert len(search.trials) < 12
    assert "the chance is" in search.stopped or search.stopped == "all that fit were tried"


def test_kept_trials_take_no_time_of_the_budget(search_of, machine_of):
    machine = machine_of(1)
    search = search_of(
        run=lambda each: dataclasses.replace(machine.run(each), is_cached=True), seconds=15.0, trials=4
    )
    assert len(ended(search).trials) == 4


def test_nothing_that_fits_gives_no_best_and_every_row_says_why(search_of, space):
    search = ended(search_of(device_bytes=GIB // 4))
    assert (search.best(), front_of(search)) == (None, ())
    assert len(path_of(search, space[0])) == 1
    assert all(row.verdict.endswith("256.0 MiB are there") for row in search.rows())


def test_unknown_memory_fits_only_where_nothing_bounds_it(search_of, space, memory):
    bytes_of = {**memory, space[0].key: None}
    unbound, bound = search_of(bytes_of=bytes_of), search_of(bytes_of=bytes_of, device_bytes=99 * GIB)
    rows = [next(r for r in each.rows() if r.candidate is space[0]) for each in (unbound, bound)]
    assert [row.fits for row in rows] == [True, False]


def test_without_trials_the_answer_is_about_as_fast_as_any_is_believed_and_near_the_start(search_of, space):
    search = ended(search_of(trials=0, device_bytes=4 * GIB))
    best, rows = search.best(), [row for row in search.rows() if is_usable(row)]
    assert not best.estimate.is_measured
    assert best.fits
    assert search.trials == []
    start = path_of(search, space[0])[0].candidate.choices
    enough = max(row.samples_per_second for row in rows) / 1.02

    def apart(row):
        return sum(row.candidate.choices[axis] != start[axis] for axis in start)

    assert best.samples_per_second >= enough
    assert apart(best) == min(apart(row) for row in rows if row.samples_per_second >= enough)


def test_a_prediction_alone_speaks_for_no_change_that_gains_next_to_nothing(search_of, space, work, memory):
    """The other does 1 % less; once both were tried, it is the faster one."""
    start, less = space[0], space[2]
    works = {start.key: work[start.key]}
    works[less.key] = dataclasses.replace(
        works[start.key], forward_flops=0.99 * work[start.key].forward_flops
    )
    run = {start.key: 1.0, less.key: 0.97}

    def tried(candidate):
        seconds = run[candidate.key]
        phases = {"forward": seconds / 3, "backward": seconds * 2 / 3, "optimizer": 0.0}
        return Trial(candidate.key, "measured", "", 1.0, (seconds,) * 8, phases)

    search = search_of(run=tried, candidates=[start, less], work=works)
    assert search.best().candidate is start
    assert "nearest to the start" in search.best().verdict
    assert ended(search).best().candidate is less
    assert "the fastest of 2" in search.best().verdict


def test_several_devices_are_never_tried_and_may_win(search_of, space, work, memory, machine_of):
    one = next(each for each in space if each.batch_size == 1)
    config = one.config.model_copy(
        update={"train": one.config.train.model_copy(update={"gradient_accumulation_steps": 2})}
    )
    settings = {**one.settings, "TRAIN.GRADIENT_ACCUMULATION_STEPS": 2}
    four = Candidate(settings, config, {**one.choices, "batch": "1 x 2", "devices": "4"}, devices=4)
    ones = [dataclasses.replace(each, choices={**each.choices, "devices": "1"}) for each in space]
    search = search_of(
        machine_of(2, noise=0.01),
        candidates=[*ones, four],
        bytes_of={**memory, four.key: memory[one.key]},
        work={**work, four.key: work[one.key]},
    )
    ended(search)
    assert four.key not in {trial.key for trial in search.trials}
    tried = {trial.key for trial in search.trials}
    assert (search.best().candidate is four) == (one.key in tried)


def running_out(machine, memory, *, of="device"):
    """Return a function that tries candidates, some of which run out of a memory."""

    def run(candidate):
        if memory(candidate):
            return Trial(candidate.key, "out of memory", "as told", 5.0, ran_out=of)
        return machine.run(candidate)

    return run


def test_what_was_measured_fits_though_one_that_was_said_to_need_less_ran_out(search_of, machine_of, space):
    """What is predicted is in the wrong order: the start should need most, and needs less in truth."""
    start, small = space[0], space[1]
    bytes_of = {each.key: GIB for each in space} | {start.key: 5 * GIB}
    run = running_out(machine_of(3, noise=0.01), lambda candidate: candidate is not start)
    search = ended(search_of(run=run, candidates=[start, small], bytes_of=bytes_of))
    assert [trial.outcome for trial in search.trials] == ["measured", "out of memory"]
    assert search.best().candidate is start
    assert [row.fits for row in search.rows()] == [True, False]


def test_a_compiled_step_that_ran_out_rules_out_no_other(search_of, machine_of, space, work):
    plain = space[0]
    train = plain.config.train.model_copy(update={"compile_model": True})
    config = plain.config.model_copy(update={"train": train})
    compiled = Candidate({"TRAIN.COMPILE_MODEL": True}, config, {**plain.choices, "compile": "on"})
    first = dataclasses.replace(compiled, settings={})
    twin = dataclasses.replace(plain, choices={**plain.choices, "compile": "off"})
    search = search_of(
        run=running_out(machine_of(3), lambda candidate: candidate is first),
        candidates=[first, twin],
        bytes_of={first.key: GIB, twin.key: GIB},
        work={first.key: work[plain.key], twin.key: work[plain.key]},
    )
    assert ended(search).trials[0].outcome == "out of memory"
    assert search.best().candidate is twin


def test_memory_of_the_host_that_runs_out_says_nothing_of_the_devices(search_of, machine_of, space):
    """All are said to need as much of the device; every second one needs more of the machine."""
    needs = {each.key: held(GIB, (3 + number % 2) * GIB) for number, each in enumerate(space)}
    machine = machine_of(3, noise=0.01)
    search = search_of(
        run=running_out(machine, lambda each: needs[each.key].host_bytes == 4 * GIB, of="host"),
        bytes_of=needs,
        host_bytes=9 * GIB,
    )
    ended(search)
    ran_out = [trial for trial in search.trials if trial.outcome == "out of memory"]
    assert len(ran_out) == 1
    assert {row.host_bytes for row in search.rows() if row.fits} == {3 * GIB}
    others = [row.verdict for row in search.rows() if not row.fits and row.trial is None]
    assert set(others) == {
        "needs 4.00 GiB of host memory, and one that needs 4.00 GiB was out of memory when tried"
    }


def test_memory_that_ran_out_without_a_word_of_which_rules_out_that_one_alone(search_of, machine_of, space):
    machine = machine_of(3, noise=0.01)
    run = running_out(machine, lambda candidate: candidate is space[0], of=None)
    search = ended(search_of(run=run, trials=4))
    assert [trial.outcome for trial in search.trials] == ["out of memory", "measured", "measured", "measured"]
    assert [row.fits for row in search.rows()].count(False) == 1


def test_one_that_the_kernel_killed_for_want_of_memory_rules_out_larger_ones(search_of, machine_of, space):
    needs = {each.key: held(GIB, number * GIB) for number, each in enumerate(space)}
    killed = Trial(space[0].key, "killed", "by SIGKILL", 5.0, ran_out="host")
    search = search_of(run=lambda candidate: killed, bytes_of={**needs, space[0].key: held(GIB, 20 * GIB)})
    search.step()
    fitting = {row.candidate.key for row in search.rows() if row.fits}
    assert fitting == {each.key for each in space[1:20]}


def test_where_all_trials_failed_nothing_is_recommended(search_of, space):
    search = search_of(run=lambda each: Trial(each.key, "failed", "no kernel", 5.0), trials=3)
    assert search.best() is not None  # by what is believed, as long as nothing was tried
    search.step()
    assert search.best() is None
    ended(search)
    assert (search.best(), front_of(search), len(path_of(search, space[0]))) == (None, (), 1)
    verdicts = [row.verdict for row in search.rows() if row.trial is None]
    assert verdicts
    assert all(
        each.startswith("no trial gave figures, so that nothing is recommended: ") for each in verdicts
    )


def test_an_interrupt_while_it_learns_loses_no_trial(search_of, machine_of, monkeypatch):
    search = search_of(machine_of(4))
    search.step()
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(PhasePosterior, "_fitted", interrupted)
        search.step()
    assert len(search.trials) == 2
    tried = [row for row in search.rows() if row.trial is not None]
    assert len(tried) == 2 and all(row.estimate.is_measured for row in tried)
    assert search.best().candidate.key in {trial.key for trial in search.trials}


def interrupted(*given):
    raise KeyboardInterrupt


def test_why_memory_could_not_be_predicted_is_in_the_verdict(search_of, space, memory):
    failed = held(None, from_="its process was killed by SIGKILL")
    search = search_of(bytes_of={**memory, space[3].key: failed}, device_bytes=99 * GIB)
    row = next(row for row in search.rows() if row.candidate is space[3])
    assert row.verdict == "its memory is not known: its process was killed by SIGKILL"
