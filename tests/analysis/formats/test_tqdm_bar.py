import pytest

from deblurkit.analysis.formats.tqdm_bar import looks_like_tqdm


def clock(seconds):
    hours, rest = divmod(int(seconds), 3600)
    return f"{hours}:{rest // 60:02d}:{rest % 60:02d}" if hours else f"{rest // 60:02d}:{rest % 60:02d}"


def bar(done, total, elapsed, *, name="", seconds=None, postfix=""):
    rate = "?it/s" if seconds is None else f"{seconds:.2f}s/it" if seconds > 1 else f"{1 / seconds:.2f}it/s"
    left = "?" if seconds is None else clock(seconds * (total - done))
    front = f"{name}{100 * done // total:3d}%|{'█' * 5:10}|"
    return f"{front} {done}/{total} [{clock(elapsed)}<{left}, {rate:>9}{postfix}]"


def run(total, *, seconds=2.0, name="", postfix=""):
    lines = [bar(0, total, 0, name=name)]
    return lines + [
        bar(done, total, done * seconds, name=name, seconds=seconds, postfix=postfix)
        for done in range(1, total + 1)
    ]


def test_steps_from_the_time_that_the_bar_counts(read):
    log = read("\r".join(run(4000, postfix=", loss=0.25, lr=1e-4")))
    assert (log.format, log.num_steps, log.damaged_lines) == ("tqdm", 4000, 0)
    assert log.steps["step"].iloc[[0, -1]].tolist() == [1, 4000]
    assert log.steps["total_ms"].to_numpy() == pytest.approx(2000)
    assert log.steps["unix_s"].isna().all()
    assert log.scalars["printed_ms"]["value"].unique().tolist() == [2000]
    assert log.scalars["loss"]["value"].unique().tolist() == [0.25]
    assert log.scalars["learning_rate"]["value"].unique().tolist() == [1e-4]


def test_whole_seconds_do_not_make_noise(read):
    log = read("\r".join(run(1000, seconds=0.3)))
    assert log.steps["total_ms"].to_numpy() == pytest.approx(300, rel=0.06)


def test_epochs_follow_one_another_and_validation_is_no_step(read):
    lines = []
    for epoch in range(3):
        lines += run(50, name=f"Epoch {epoch}: ")
        lines += run(20, name="Validating: ", seconds=3.0)
    log = read("\r".join(lines))
    assert log.steps["step"].tolist() == list(range(1, 151))
    assert log.steps["epoch"].tolist() == [1] * 50 + [2] * 50 + [3] * 50
    assert log.steps["total_ms"].to_numpy() == pytest.approx(2000)


def test_a_bar_that_begins_in_the_middle_goes_on_from_there(read):
    resumed = [bar(500, 1000, 0), *(bar(500 + done, 1000, 2 * done, seconds=2.0) for done in range(1, 101))]
    log = read("\r".join(resumed))
    assert log.steps["step"].iloc[[0, -1]].tolist() == [501, 600]
    assert log.num_steps == 100
    assert log.steps["total_ms"].to_numpy() == pytest.approx(2000)


def test_repeated_states_and_broken_ones_do_no_harm(read):
    lines = run(100)
    lines = [part for line in lines for part in (line, line)]
    lines[50] = lines[50][:-10]
    log = read("\r".join(lines))
    assert log.steps["step"].tolist() == list(range(1, 101))


def test_what_happens_between_is_told(read):
    lines = run(100)
    lines[40] += "Traceback (most recent call last):\n  File 'x.py', line 3, in <module>\nRuntimeError: boom"
    log = read("\n".join(lines))
    assert [(event.kind, event.text, event.step) for event in log.events] == [
        ("error", "RuntimeError: boom", 40)
    ]


def test_only_bars_are_recognised():
    assert looks_like_tqdm(b"x 50/1000 [01:23<26:12,  1.65s/it]")
    assert not looks_like_tqdm(b"x 50/1000 [01:23<26:12")
