import math

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from deblurkit.analysis.formats.tensorboard_events import read_events
from deblurkit.render.exports.tensorboard_folder import run_names, write_tensorboard


def scalars_of(folder):
    """Return what TensorBoard itself sees in a run: (step, wall time, value) by tag."""
    seen = EventAccumulator(str(folder))
    seen.Reload()
    return {
        tag: [(event.step, event.wall_time, event.value) for event in seen.Scalars(tag)]
        for tag in seen.Tags()["scalars"]
    }


def test_tensorboard_sees_steps_rows_and_numbers_at_their_wall_times(tmp_path, rank_report, began):
    (path,) = write_tensorboard([rank_report()], tmp_path)
    assert path.parent == tmp_path / "timing.rank0.jsonl"
    seen = scalars_of(path.parent)
    assert set(seen) == {
        *("timing/step", "timing/unaccounted", "timing/data", "timing/backward"),
        *("timing/前向传播", "timing/前向传播/编码器", "train/loss", "validation/psnr_db"),
    }
    assert seen["timing/step"] == [
        (1, began + 0.1, 100.0),
        (2, began + 0.21, 110.0),
        (3, began + 0.83, 120.0),
    ]
    assert [(step, value) for step, _, value in seen["timing/data"]] == [(2, 10.0), (3, 10.0)]
    assert [value for *_, value in seen["timing/unaccounted"]] == [10.0, 10.0, 10.0]
    assert seen["validation/psnr_db"] == [(2, began + 0.5, 31.5)]
    assert seen["train/loss"][:2] == [
        (1, began + 0.1, 0.5),
        (3, pytest.approx(began + 0.83), 0.25),
    ]
    assert seen["train/loss"][2] == (2, 0.0, math.inf)


def test_without_wall_time_the_steps_follow_one_another(tmp_path, report_without_wall_time):
    (path,) = write_tensorboard([report_without_wall_time], tmp_path)
    seen = scalars_of(path.parent)
    assert [(step, moment) for step, moment, _ in seen["timing/step"]] == [(10, 0.5), (20, 1.0)]
    assert "timing/unaccounted" not in seen


def test_writing_again_replaces_what_was_written(tmp_path, rank_report):
    for _ in range(2):
        (path,) = write_tensorboard([rank_report()], tmp_path)
    assert list(path.parent.iterdir()) == [path]
    assert len(scalars_of(path.parent)["timing/step"]) == 3


def test_what_is_written_is_read_back(tmp_path, rank_report):
    report = rank_report()
    (path,) = write_tensorboard([report], tmp_path)
    with path.open("rb") as file:
        log = read_events(file, source="x")
    assert log.steps["total_ms"].tolist() == report.log.steps["total_ms"].tolist()
    assert log.steps["unix_s"].tolist() == report.log.steps["unix_s"].tolist()
    assert log.times[report.log.times.columns.tolist()].equals(report.log.times)
    assert set(log.scalars) == {"loss", "psnr_db"}


@pytest.mark.parametrize(
    ("sources", "names"),
    [
        (["a/b/x.log"], ["x.log"]),
        (["a/run 1/x.log", "a/run 2/x.log"], ["run_1/x.log", "run_2/x.log"]),
        (["x.log", "x.log", "x.log"], ["x.log", "x.log (2)", "x.log (3)"]),
        (["运行/时间.log", "运行/:*?.log"], ["时间.log", "_.log"]),
        ([], []),
    ],
)
def test_each_log_is_a_run_of_its_own_name(sources, names):
    assert run_names(sources) == names


def test_a_log_without_rows(tmp_path, bare_report):
    (path,) = write_tensorboard([bare_report], tmp_path)
    seen = scalars_of(path.parent)
    assert len(seen.get("timing/step", [])) == bare_report.steps
    assert [value for *_, value in seen["train/loss"]] == [0.5, 0.25]
