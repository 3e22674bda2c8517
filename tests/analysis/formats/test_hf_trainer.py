import pytest

from deblurkit.analysis.formats.hf_trainer import looks_like_hf_trainer


def clock(seconds):
    return f"{int(seconds) // 60:02d}:{int(seconds) % 60:02d}"


def bar(done, total, elapsed):
    rate = f"{elapsed / done:.2f}s/it" if done and elapsed else "?it/s"
    left = clock(0) if done and elapsed else "?"
    return f"{100 * done // total:3d}%|{'#' * 5:10}| {done}/{total} [{clock(elapsed)}<{left}, {rate:>8}]"


def numbers(step, *, quote="'", more=""):
    rest = f"'grad_norm': 1.5, 'learning_rate': 5e-05{more}, 'epoch': {step / 100:.2f}"
    return f"{{'loss': {2 / step:.4f}, {rest}}}".replace("'", quote)


def summary(runtime, steps, batch):
    return (
        f"{{'train_runtime': {runtime:.4f}, 'train_samples_per_second': {steps * batch / runtime:.3f},"
        f" 'train_steps_per_second': {steps / runtime:.3f}, 'train_loss': 0.1, 'epoch': 3.0}}"
    )


def run(total, *, seconds=3.0, every=10, evaluate=100, took=60.0):
    lines, elapsed = ["***** Running training *****", "  Total train batch size = 32", bar(0, total, 0)], 0.0
    for step in range(1, total + 1):
        elapsed += seconds
        lines.append(bar(step, total, elapsed))
        if step % every == 0:
            lines.append(numbers(step))
        if step % evaluate == 0:
            lines.append("***** Running Evaluation *****")
            lines += [bar(done, 15, done * took / 15) for done in range(16)]
            lines.append(f"{{'eval_loss': 1.25, 'eval_runtime': {took}, 'eval_psnr': 31.5, 'epoch': 1.0}}")
            elapsed += took
    return [*lines, summary(elapsed, total, 32)]


def test_steps_from_the_bar_and_numbers_from_the_dicts(read):
    log = read("\n".join(run(300)))
    assert (log.format, log.num_steps, log.damaged_lines) == ("hf-trainer", 300, 0)
    assert log.samples_per_step == 32
    known = log.steps["wall_known"]
    assert log.steps["step"][~known].tolist() == [101, 201]  # an evaluation lies before them
    assert log.steps["total_ms"][known].to_numpy() == pytest.approx(3000)
    assert log.scalars["loss"]["step"].tolist() == list(range(10, 301, 10))
    assert log.scalars["loss"]["value"].iloc[0] == 0.2
    assert log.scalars["grad_norm"]["value"].unique().tolist() == [1.5]
    assert log.scalars["loss/validation"][["step", "value"]].to_numpy().tolist() == [
        [s, 1.25] for s in (100, 200, 300)
    ]
    assert log.scalars["psnr_db"]["value"].tolist() == [31.5] * 3
    validations = [(event.step, event.seconds) for event in log.events if event.kind == "validation"]
    assert validations == [(100, 60.0), (200, 60.0), (300, 60.0)]


@pytest.mark.parametrize("spoil", ["\r", "glued"])
def test_bars_that_end_no_line(read, spoil):
    text = "\n".join(run(300))
    text = text.replace("s/it]\n", "s/it]\r") if spoil == "\r" else text.replace("s/it]\n{", "s/it]{")
    log = read(text)
    assert log.num_steps == 300
    assert len(log.scalars["loss"]) == 30


def test_json_with_the_step_in_it(read):
    lines = [numbers(step, quote='"', more=f", 'step': {step}") for step in range(500, 5001, 500)]
    log = read("\n".join(lines))
    assert log.steps["step"].tolist() == list(range(500, 5001, 500))
    assert log.num_steps == 5000
    assert log.scalars["loss"]["step"].tolist() == list(range(500, 5001, 500))


def test_values_in_quotes_as_newer_versions_print_them(read):
    log = read("{'loss': '2.31', 'grad_norm': '1.2', 'learning_rate': '5e-05', 'epoch': '0.03'}")
    assert log.scalars["loss"]["value"].tolist() == [2.31]


def test_without_a_bar_only_the_mean_of_a_step_is_known(read):
    log = read("\n".join([*(numbers(step) for step in range(100, 1001, 100)), summary(2000.0, 1000, 16)]))
    assert (log.num_steps, log.samples_per_step, log.is_summary) == (1000, 16, True)
    assert log.steps["total_ms"].tolist() == [pytest.approx(2000)]
    assert log.steps["wall_known"].tolist() == [True]
    assert len(log.scalars["loss"]) == 10
    assert log.scalars["loss"]["step"].isna().all()


def test_a_loss_that_is_nan_and_half_a_dict(read):
    lines = [
        "{'loss': nan, 'grad_norm': nan, 'learning_rate': 5e-05, 'epoch': 0.1}",
        "{'loss': 0.25, 'grad_n",
    ]
    log = read("\n".join([numbers(10), *lines, numbers(20)]))
    assert [event.kind for event in log.events] == ["nonfinite"]
    assert log.damaged_lines == 1
    assert log.scalars["loss"]["value"].isna().tolist() == [False, True, False]


def test_only_its_own_dicts_are_recognised():
    assert looks_like_hf_trainer(numbers(1).encode())
    assert not looks_like_hf_trainer(b"{'loss' is what: 3}")
    assert not looks_like_hf_trainer(b'{"schema": "deblurkit-timing/1"}')
