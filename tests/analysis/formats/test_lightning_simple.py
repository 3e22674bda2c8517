from pathlib import Path

import pytest

from deblurkit.analysis.formats.lightning_simple import looks_like_lightning_simple
from deblurkit.errors import DeblurkitError


def report(rows, *, is_extended=True, stage="FIT"):
    """A table of the SimpleProfiler: a tab before each bar, %.5g numbers, three or five columns."""
    whole = max(total for _, total, _ in rows)
    lines = [f"{stage} Profiler Report", ""]
    header = ["Mean duration (s)", *(["Num calls"] if is_extended else []), "Total time (s)"]
    header += ["Percentage %"] if is_extended else []
    table = [["Action", *header]]
    if is_extended:
        table.append(["Total", "-", str(sum(calls for _, _, calls in rows)), f"{whole:.5g}", "100 %"])
    for name, total, calls in rows:
        numbers = [f"{total / calls:.5g}", *([str(calls)] if is_extended else []), f"{total:.5g}"]
        table.append([name, *numbers, *([f"{100 * total / whole:.5g}"] if is_extended else [])])
    for cells in table:
        lines += ["-" * 120, "|  " + "\t|  ".join(f"{cell:<20}" for cell in cells) + "\t|"]
    return "\n".join([*lines, "-" * 120, ""])


ROWS = [
    ("run_training_epoch", 26.0, 2),
    ("run_training_batch", 20.0, 100),
    ("[LightningModule]Net.optimizer_step", 19.8, 100),
    ("[Strategy]DDPStrategy.backward", 12.0, 100),
    ("[Strategy]DDPStrategy.training_step", 6.0, 100),
    ("[_TrainingEpochLoop].train_dataloader_next", 3.0, 102),
    ("[Strategy]DDPStrategy.batch_to_device", 0.5, 120),
    ("[LightningModule]Net.transfer_batch_to_device", 0.4, 120),
    ("[LightningModule]Net.configure_gradient_clipping", 0.3, 100),
    ("[Strategy]DDPStrategy.validation_step", 1.5, 20),
    ("[_EvaluationLoop].val_next", 0.5, 21),
    ("save_checkpoint", 0.25, 2),
    ("[Callback]ModelCheckpoint{'dirpath': 'a/b', 'mode': 'max'}.on_train_batch_end", 0.1, 100),
    ("[Callback]TQDMProgressBar.on_fit_start", 0.01, 1),
]


@pytest.mark.parametrize("is_extended", [True, False])
def test_actions_whose_place_is_known_make_a_step(read, is_extended):
    log = read(report(ROWS, is_extended=is_extended))
    assert (log.format, log.num_steps, log.damaged_lines) == ("lightning-simple", 100, 0)
    assert log.is_summary
    assert log.times.iloc[0].to_dict() == pytest.approx(
        {
            "data": 30.0,
            "transfer": 5.0,  # the strategy's, in which the module's lies
            "forward": 60.0,
            "backward": 120.0,
            "optimizer": 18.0,  # 198 less forward and backward, which it calls
            "optimizer/[LightningModule]Net.configure_gradient_clipping": 3.0,
            "callbacks/[Callback]ModelCheckpoint{'dirpath': 'a|b', 'mode': 'max'}.on_train_batch_end": 1.0,
        }
    )
    assert log.steps["total_ms"].tolist() == [pytest.approx(240.0)]  # the epochs' 26 s less 2 s of validation
    assert log.steps["wall_known"].tolist() == [True]
    beside = {part.name: (pytest.approx(part.seconds), part.count) for part in log.beside}
    assert beside == {"validation": (2.0, 21), "checkpoints": (0.25, 2)}


@pytest.mark.parametrize("kind", ["extended", "plain"])
def test_the_real_reports(read, kind):
    path = Path(__file__).parents[4] / "shared" / "data" / "logs" / f"lightning_simple_{kind}.txt"
    if not path.exists():
        pytest.skip("the sample reports are not here")
    log = read(path.read_bytes())
    assert log.num_steps == 20
    data = {"extended": 1.0903, "plain": 1.105}[kind]
    assert log.times["data"].iloc[0] == pytest.approx(data, rel=1e-3)
    assert log.times["optimizer"].iloc[0] < 0.02


def test_the_names_of_lightning_1(read):
    rows = [
        ("run_training_epoch", 10.0, 1),
        ("get_train_batch", 1.0, 51),
        ("run_training_batch", 8.5, 50),
        ("optimizer_step_with_closure_0", 8.0, 50),
        ("training_step_and_backward", 7.5, 50),
        ("model_forward", 2.5, 50),
        ("model_backward", 5.0, 50),
    ]
    log = read(report(rows))
    assert log.times.iloc[0].to_dict() == pytest.approx(
        {"data": 20, "forward": 50, "backward": 100, "optimizer": 10}
    )


def test_of_several_reports_the_last_with_training_steps_counts(read):
    other = [("run_training_epoch", 2.0, 1), ("run_training_batch", 1.0, 10)]
    test = [("run_test_evaluation", 2.0, 1)]
    log = read(report(ROWS) + report(other) + report(test, stage="TEST"))
    assert log.num_steps == 10


def test_a_report_without_training_is_an_error_that_says_so(read):
    with pytest.raises(DeblurkitError, match="1 profiler report without a training step"):
        read(report([("run_test_evaluation", 2.0, 1)], stage="TEST"))


def test_damaged_rows_are_counted(read):
    lines = report(ROWS).replace("|  0.06  ", "|  0.0x6 ").splitlines()
    cut = next(place for place, line in enumerate(lines) if "train_dataloader_next" in line)
    lines[cut] = lines[cut][:80]
    text = "\n".join(lines)
    log = read(text)
    assert log.damaged_lines == 2
    assert "forward" not in log.times
    assert "data" not in log.times


def test_only_its_own_table_is_recognised():
    assert looks_like_lightning_simple(report(ROWS).encode())
    assert not looks_like_lightning_simple(b"the Mean duration of an Action")
