from datetime import datetime, timedelta

import numpy as np
import pytest

from deblurkit.analysis.formats.timestamps_only import looks_like_stamped_lines
from deblurkit.errors import DeblurkitError

START = datetime(2024, 1, 31, 23, 50)


def run(form, *, steps=60, seconds=30.0, stall_at=None, pattern="%Y-%m-%d %H:%M:%S"):
    at, lines = START, []
    for step in range(1, steps + 1):
        at += timedelta(seconds=seconds * (10 if step == stall_at else 1))
        lines.append(
            f"{at.strftime(pattern)} {form.format(step=100 * step, epoch=step // 20, loss=1 / step)}"
        )
    return lines


@pytest.mark.parametrize(
    "form",
    [
        "INFO step {step} loss: {loss:.4f}",
        "[train] epoch {epoch} | iter={step} | loss={loss:.4f}",
        "Iteration: {step:,} of 100000, loss {loss:.4f}",
        "global_step {step}/100000 loss={loss:.4f}",
    ],
)
@pytest.mark.parametrize(
    "pattern",
    ["%Y-%m-%d %H:%M:%S", "[%H:%M:%S]", "%b %d %H:%M:%S", "%d-%m-%y", "%Y-%m-%dT%H:%M:%S.250+08:00"],
)
def test_steps_that_are_numbered(read, form, pattern):
    lines = run(form, pattern=pattern, stall_at=30)
    if pattern == "%d-%m-%y":  # no time of day: nothing to go by
        with pytest.raises(DeblurkitError, match="not a log that is known here"):
            read("\n".join(lines))
        return
    log = read("\n".join(lines))
    assert (log.format, log.num_steps) == ("timestamps", 6000)
    assert log.steps["step"].tolist() == list(range(100, 6001, 100))
    expected = np.where(np.arange(1, 60) == 29, 3000.0, 300.0)
    assert log.steps["total_ms"].iloc[1:].to_numpy() == pytest.approx(expected)
    assert log.scalars["loss"]["value"].to_numpy() == pytest.approx(1 / np.arange(1, 61), abs=1e-4)


def test_lines_of_the_most_frequent_kind_are_steps_where_none_is_numbered(read):
    lines = run("finished a batch, loss {loss:.4f}", seconds=4.0)
    lines[7:7] = ["2024-01-31 23:50:29 something else", "a line without a stamp"]
    log = read("\n".join(lines))
    assert log.num_steps == 60
    assert log.steps["total_ms"].iloc[1:].to_numpy() == pytest.approx(4000)
    assert "each line of the most frequent kind counts as a step" in " ".join(log.notes)


def test_numbers_and_events(read):
    lines = run("step {step} loss: {loss:.4f} lr: 1e-4")
    lines[30:30] = ["2024-02-01 00:05:01 validation: PSNR 31.50 SSIM 0.91"]
    lines.append("2024-02-01 00:30:00 CUDA out of memory")
    log = read("\n".join(lines))
    assert log.scalars["learning_rate"]["value"].unique().tolist() == [1e-4]
    assert log.scalars["psnr_db"][["step", "value"]].to_numpy().tolist() == [[3000, 31.5]]
    assert [event.kind for event in log.events] == ["validation", "oom"]
    assert np.flatnonzero(log.steps["total_ms"].isna()).tolist() == [0, 30]


@pytest.mark.parametrize("text", ["hello\n" * 20, "2024-01-31 23:50:29 one line\n", "12:00\n" * 20, "\n\n"])
def test_what_has_no_steps_is_not_recognised(text):
    assert not looks_like_stamped_lines(text.encode())
