import json

import pytest
import yaml

from deblurkit.errors import CheckpointError, ConfigError, DataError, DeblurkitError
from deblurkit.render.picture import before_and_after
from deblurkit.training import checkpoint, run
from deblurkit.training.interrupt import InterruptedRun


def test_a_run_s_folder_holds_what_the_run_was_and_what_came_of_it(tiny_config, Watcher):
    config, watcher = tiny_config("LOG.TENSORBOARD=true"), Watcher()
    summary = run.train(config, observer=watcher)
    folder = config.log.save_dir
    assert yaml.safe_load((folder / "config.yaml").read_text())["TRAIN"]["MAX_STEPS"] == 4
    written = json.loads((folder / "summary.json").read_text())
    assert written["steps"] == summary.steps == 4
    assert written["samples_per_second"] == pytest.approx(8 / written["seconds"], rel=0.01)
    assert set(written["validation"]) == {"protocol", "psnr_db", "ssim", "psnr_db_blurry", "ssim_blurry"}
    assert [path.name for path in checkpoint.checkpoints_in(folder / "checkpoints")] == ["step_00000004.pt"]
    assert list((folder / "logs").glob("timing_*.log")) and list(
        (folder / "logs").glob("timing_*.rank0.jsonl")
    )
    assert list((folder / "logs" / "tensorboard").iterdir())
    (log,) = (folder / "logs").glob("train_*.log")
    assert "step 4/4 | loss=" in log.read_text() and "validation after step 4 (vrt)" in log.read_text()
    assert [progress.step for progress in watcher.steps] == [2, 4]
    assert watcher.plan.first_step == 1 and watcher.validations == [4]


def test_every_phase_of_every_step_is_in_the_timing_log(tiny_config, Watcher):
    config = tiny_config()
    run.train(config, observer=Watcher())
    (lines,) = (config.log.save_dir / "logs").glob("*.jsonl")
    rows = [json.loads(line) for line in lines.read_text().splitlines()]
    assert rows[1]["names"] == ["data", "transfer", "forward", "loss", "backward", "optimizer"]
    steps = [row for row in rows if isinstance(row, list)]
    assert [row[0] for row in steps] == [1, 2, 3, 4]
    assert all(sum(row[3:]) <= row[2] * 1.001 for row in steps)
    assert rows[0]["samples_per_step"] == 2


def test_without_a_timing_log_none_is_written(tiny_config, Watcher):
    config = tiny_config("LOG.ENABLE_TIMING_LOG=false")
    run.train(config, observer=Watcher())
    assert not list((config.log.save_dir / "logs").glob("timing_*"))


def test_validations_checkpoints_and_pictures_come_when_they_are_due(tiny_config, Watcher):
    config, watcher = (
        tiny_config(
            "LOG.VAL_EVERY_STEPS=2",
            "LOG.SAVE_EVERY_STEPS=1",
            "LOG.PICTURES_EVERY_EPOCHS=1",
            "TRAIN.MAX_STEPS=7",
        ),
        Watcher(),
    )
    run.train(config, observer=watcher, picture=before_and_after)
    # Two sequences of five frames give six clips, three batches of two: an epoch is three steps.
    assert watcher.validations == [2, 3, 4, 6, 7]
    assert sorted(path.name for path in (config.log.save_dir / "pictures").iterdir()) == [
        "step_00000003.png",
        "step_00000006.png",
    ]
    kept = [path.name for path in checkpoint.checkpoints_in(config.log.save_dir / "checkpoints")]
    assert kept == ["step_00000006.pt", "step_00000007.pt"]


def test_a_folder_that_holds_a_run_is_not_overwritten(tiny_config, Watcher):
    config = tiny_config()
    run.train(config, observer=Watcher())
    before = (config.log.save_dir / "summary.json").read_bytes()
    with pytest.raises(DeblurkitError, match="already holds a run.*--resume auto"):
        run.train(config, observer=Watcher())
    assert (config.log.save_dir / "summary.json").read_bytes() == before


def test_a_resumed_run_says_what_was_changed(tiny_config, Watcher):
    run.train(tiny_config(), observer=Watcher())
    watcher = Watcher()
    changed = tiny_config("TRAIN.MAX_STEPS=6", "TRAIN.OPTIM.LR=0.5", "LOG.KEEP_CHECKPOINTS=9")
    summary = run.train(changed, observer=watcher, resume="auto")
    assert summary.steps == 6 and watcher.plan.first_step == 5
    assert len(watcher.warnings) == 1 and "TRAIN.OPTIM.LR was 0.001" in watcher.warnings[0]


def test_resuming_with_nothing_there_starts_anew_and_a_named_file_must_exist(tiny_config, tmp_path, Watcher):
    watcher = Watcher()
    run.train(tiny_config(), observer=watcher, resume="auto")
    assert watcher.plan.first_step == 1
    with pytest.raises(CheckpointError, match="found none"):
        run.train(tiny_config(), observer=Watcher(), resume=str(tmp_path / "no.pt"))


def test_a_finished_run_resumed_only_validates(tiny_config, Watcher):
    run.train(tiny_config(), observer=Watcher())
    watcher = Watcher()
    assert run.train(tiny_config(), observer=watcher, resume="auto").steps == 4
    assert watcher.steps == [] and watcher.validations == [4]


def test_a_stop_request_saves_the_step_and_says_how_to_go_on(tiny_config, monkeypatch, Watcher):
    config = tiny_config("TRAIN.MAX_STEPS=50")

    class StopAtThree(Watcher):
        def timed(self, timing):
            import os
            import signal

            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(InterruptedRun, match="--resume auto") as caught:
        run.train(config, observer=StopAtThree())
    assert caught.value.exit_code == 143
    (saved,) = checkpoint.checkpoints_in(config.log.save_dir / "checkpoints")
    assert saved.name == "step_00000002.pt"


def test_a_loss_that_is_no_number_ends_the_run_with_advice(tiny_config, monkeypatch, Watcher):
    import torch

    monkeypatch.setattr(run, "build_loss", lambda section: lambda r, s: r.sum() * torch.tensor(float("nan")))
    with pytest.raises(DeblurkitError, match=r"the loss became nan.*TRAIN\.OPTIM\.LR"):
        run.train(tiny_config(), observer=Watcher())


def test_a_checkpoint_that_cannot_be_written_is_a_clear_error(tiny_config, monkeypatch, Watcher):
    def full(*args, **named):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint, "save_checkpoint", full)
    with pytest.raises(CheckpointError, match="could not be written.*No space left"):
        run.train(tiny_config(), observer=Watcher())


def test_what_this_version_cannot_do_is_refused_or_said(tiny_config, Watcher):
    with pytest.raises(ConfigError, match="VGG_PERCEPTUAL"):
        run.train(tiny_config("LOSS.VGG_PERCEPTUAL.WEIGHT=0.1"), observer=Watcher())
    watcher = Watcher()
    run.train(tiny_config("DATA.USE_RAM_CACHE=true", "DATA.USE_PRECOMPUTED_VOXELS=true"), observer=watcher)
    assert [text.split(":")[0] for text in watcher.warnings] == [
        "DATA.USE_RAM_CACHE",
        "DATA.USE_PRECOMPUTED_VOXELS",
    ]


@pytest.mark.parametrize(
    "more",
    [
        ["MODEL.ARCH=convnext", "TRAIN.AMP_ENABLED=true"],
        ["MODEL.USE_SPIKE=false", "TRAIN.GRADIENT_ACCUMULATION_STEPS=2"],
        ["TRAIN.OPTIM.TYPE=adamw8bit", "TRAIN.AMP_ENABLED=true", "TRAIN.AMP_DTYPE=fp16"],
    ],
)
def test_the_variants_of_a_run_train(tiny_config, more, Watcher):
    assert run.train(tiny_config(*more, "TRAIN.MAX_STEPS=2"), observer=Watcher()).steps == 2


def test_a_missing_dataset_is_named(tiny_config, tmp_path, Watcher):
    with pytest.raises(DataError, match="no such dataset folder"):
        run.train(
            tiny_config(f"DATA.ROOT={tmp_path / 'none'}", "DATA.AUTO_SYNTHETIC=false"), observer=Watcher()
        )
