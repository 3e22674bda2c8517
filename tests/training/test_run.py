import contextlib
import json
import os
import shutil
import signal
import weakref
from pathlib import Path

import pytest
import torch
import yaml

from deblurkit.data.packed import pack_dataset
from deblurkit.data.unified import open_dataset
from deblurkit.data.voxel_store import make_voxels
from deblurkit.errors import CheckpointError, DataError, DeblurkitError, LostPeer
from deblurkit.models.unet import ClipUNet
from deblurkit.render.picture import before_and_after
from deblurkit.training import checkpoint, parts, run
from deblurkit.training.distributed import Ranks
from deblurkit.training.interrupt import InterruptedRun
from deblurkit.training.losses import EveryStep
from deblurkit.training.validate import Lpips


def test_a_run_s_folder_holds_what_the_run_was_and_what_came_of_it(tiny_config, Watcher):
    config, watcher = tiny_config("LOG.TENSORBOARD=true"), Watcher()
    summary = run.train(config, observer=watcher)
    folder = config.log.save_dir
    assert yaml.safe_load((folder / "config.yaml").read_text())["TRAIN"]["MAX_STEPS"] == 4
    written = json.loads((folder / "summary.json").read_text())
    assert written["steps"] == summary.steps == 4
    assert written["samples_per_second"] == pytest.approx(8 / written["seconds"], rel=0.01)
    assert all(0 < seconds < 60 for seconds in written["outside_seconds"].values())
    assert set(written["outside_seconds"]) == {"validation", "checkpoints"}
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
    announced = next(row["names"] for row in rows if isinstance(row, dict) and row["names"])
    names = [name for name in announced if "/" not in name]
    assert names == ["data", "transfer", "forward", "loss", "backward", "optimizer"]
    top = [3 + announced.index(name) for name in names]
    steps = [row for row in rows if isinstance(row, list)]
    assert [row[0] for row in steps] == [1, 2, 3, 4]
    assert all(sum(row[at] for at in top) <= row[2] * 1.001 for row in steps)
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


def test_the_last_step_is_validated_once_and_has_its_picture(tiny_config, Watcher):
    """Step 6 ends an epoch, in which a picture is due, and the run, which is validated anyway."""
    config, watcher = tiny_config("LOG.PICTURES_EVERY_EPOCHS=1", "TRAIN.MAX_STEPS=6"), Watcher()
    run.train(config, observer=watcher, picture=before_and_after)
    assert watcher.validations == [3, 6]
    names = sorted(path.name for path in (config.log.save_dir / "pictures").iterdir())
    assert names == ["step_00000003.png", "step_00000006.png"]


def test_lpips_is_measured_every_so_many_epochs_and_at_the_end(tiny_config, Watcher, monkeypatch):
    """Three steps an epoch; step 2 is validated without it."""
    distance = Lpips("alex", lambda restored, sharp: (restored - sharp).abs().mean(dim=(1, 2, 3)))
    asked = []
    monkeypatch.setattr(run, "lpips_of", lambda config, **named: asked.append(config) or distance)
    seen = {}

    class Looks(Watcher):
        def validated(self, step, result):
            seen[step] = result.lpips_net, result.score.lpips is not None

    keys = ["LOG.METRICS_EVERY_EPOCHS=1", "LOG.VAL_EVERY_STEPS=2", "TRAIN.MAX_STEPS=5"]
    config = tiny_config(*keys)
    summary = run.train(config, observer=Looks())
    assert seen == {2: (None, False), 3: ("alex", True), 4: (None, False), 5: ("alex", True)}
    assert summary.validation["lpips_net"] == "alex" and 0 < summary.validation["lpips"] < 1
    (log,) = (config.log.save_dir / "logs").glob("train_*.log")
    assert "LPIPS alex 0." in log.read_text()


def test_frames_that_come_out_as_no_numbers_are_said(tiny_config, Watcher, monkeypatch):
    original = ClipUNet.forward

    def breaks(self, blurry, spikes=None):
        restored = original(self, blurry, spikes)
        return restored if self.training else restored * float("nan")

    monkeypatch.setattr(ClipUNet, "forward", breaks)
    watcher, config = Watcher(), tiny_config()
    summary = run.train(config, observer=watcher)
    (warning,) = watcher.warnings
    assert warning.startswith("validation after step 4: 5 frames came out NaN or infinite")
    assert summary.validation["psnr_db"] is None and summary.validation["frames_not_finite"] == 5
    assert not (config.log.save_dir / "checkpoints" / "best.pt").exists()
    (found,) = [check for check in watcher.checks if check.id == "psnr"]
    assert found.verdict == "fail"


def test_another_protocol_is_said_when_a_run_goes_on(tiny_config, Watcher):
    run.train(tiny_config(), observer=Watcher())
    watcher = Watcher()
    run.train(tiny_config("TEST.PROTOCOL=y", "TRAIN.SCHED.TYPE=constant"), observer=watcher, resume="auto")
    told = [text for text in watcher.warnings if "best.pt was chosen by scores of protocol vrt" in text]
    assert len(told) == 1 and "protocol y" in told[0]


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
    assert [text.split(" was ")[0] for text in watcher.warnings] == ["TRAIN.OPTIM.LR", "the schedule"]
    before = config_of(changed, "config_until_step_00000004.yaml")["TRAIN"]["OPTIM"]["LR"]
    assert (before, config_of(changed, "config.yaml")["TRAIN"]["OPTIM"]["LR"]) == (0.001, 0.5)


def config_of(config, name):
    return yaml.safe_load((config.log.save_dir / name).read_text())


def test_an_order_of_batches_that_differs_is_said(tiny_config, Watcher):
    run.train(tiny_config(), observer=Watcher())
    watcher = Watcher()
    run.train(
        tiny_config("DATALOADER.DROP_LAST=false", "DATALOADER.VAL_WORKERS=1"), observer=watcher, resume="auto"
    )
    assert watcher.warnings == [
        "DATALOADER.DROP_LAST was true in the checkpoint and is false now; the run does not continue exactly"
        " as it was"
    ]


def test_an_earlier_checkpoint_does_not_displace_later_ones(tiny_config, Watcher):
    config = tiny_config("LOG.SAVE_EVERY_STEPS=2")
    run.train(config, observer=Watcher())
    first = checkpoint.checkpoint_path(config.log.save_dir / "checkpoints", 2)
    with pytest.raises(DeblurkitError, match="holds step_00000004.pt, which is later"):
        run.train(config, observer=Watcher(), resume=str(first))
    elsewhere = tiny_config(f"LOG.SAVE_DIR={config.log.save_dir.parent / 'other'}")
    assert run.train(elsewhere, observer=Watcher(), resume=str(first)).steps == 4


def test_a_config_file_of_the_user_s_own_is_not_overwritten(tiny_config, Watcher):
    config = tiny_config()
    config.log.save_dir.mkdir()
    (config.log.save_dir / "config.yaml").write_text("# my notes\n")
    with pytest.raises(DeblurkitError, match="was not written by a run"):
        run.train(config, observer=Watcher())
    assert (config.log.save_dir / "config.yaml").read_text() == "# my notes\n"


def test_weights_that_are_no_numbers_are_not_saved_over_good_ones(tiny_config, Watcher, monkeypatch):
    config = tiny_config("LOG.SAVE_EVERY_STEPS=2", "LOG.KEEP_CHECKPOINTS=1")
    made, assemble = [], run.assemble
    monkeypatch.setattr(
        run, "assemble", lambda *args, **named: made.append(assemble(*args, **named)) or made[0]
    )

    class Breaks(Watcher):
        def stepped(self, progress):
            if progress.step == 4:
                with torch.no_grad():
                    made[0].model.frames_out.weight.fill_(float("nan"))

    with pytest.raises(DeblurkitError, match="the weights became NaN"):
        run.train(config, observer=Breaks())
    (kept,) = checkpoint.checkpoints_in(config.log.save_dir / "checkpoints")
    assert kept.name == "step_00000002.pt"


def test_a_signal_in_the_last_validation_is_heeded(tiny_config, Watcher, monkeypatch):
    config = tiny_config()
    from deblurkit.training.held_out import HeldOut

    original = HeldOut.validate

    def signalled(self, model, *, precision, progress, **named):
        os.kill(os.getpid(), signal.SIGTERM)
        return original(self, model, precision=precision, progress=progress, **named)

    monkeypatch.setattr(HeldOut, "validate", signalled)
    with pytest.raises(InterruptedRun, match="stopped after step 4 of 4"):
        run.train(config, observer=Watcher())
    assert not (config.log.save_dir / "summary.json").exists()


def test_frames_that_are_perfect_already_make_valid_json(tiny_config, Watcher, monkeypatch):
    from deblurkit.training import validate

    monkeypatch.setattr(validate.metrics, "psnr_db", lambda a, b: float("inf"))
    config = tiny_config()
    summary = run.train(config, observer=Watcher())
    assert summary.validation["psnr_db"] is None
    text = (config.log.save_dir / "summary.json").read_text()
    assert json.loads(text, parse_constant=pytest.fail)["validation"]["psnr_db_blurry"] is None


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
    assert (watcher.plan.first_step, watcher.plan.total_steps) == (5, 4)


def test_a_stop_request_saves_the_step_and_says_how_to_go_on(tiny_config, monkeypatch, Watcher):
    config = tiny_config("TRAIN.MAX_STEPS=50")

    class StopAtThree(Watcher):
        def timed(self, timing):
            os.kill(os.getpid(), signal.SIGTERM)

    watcher = StopAtThree()
    with pytest.raises(InterruptedRun, match="--resume auto") as caught:
        run.train(config, observer=watcher)
    assert watcher.messages == ["stopping after this step and saving; Ctrl-C again to stop at once"]
    assert caught.value.exit_code == 143
    (saved,) = checkpoint.checkpoints_in(config.log.save_dir / "checkpoints")
    assert saved.name == "step_00000002.pt"


@pytest.mark.parametrize(
    "setting, said",
    [
        ("TRAIN.NONFINITE_GUARD=false", r"the loss became nan.*TRAIN\.OPTIM\.LR"),
        ("TRAIN.MAX_SKIPPED_STEPS=2", r"step 3: gradient.*not finite"),
    ],
)
def test_a_loss_that_is_no_number_ends_the_run_with_advice(tiny_config, monkeypatch, Watcher, setting, said):
    never = EveryStep(lambda restored, inputs: restored.sum() * torch.tensor(float("nan")))
    monkeypatch.setattr(run, "objective_of", lambda config, **others: never)
    with pytest.raises(DeblurkitError, match=said):
        run.train(tiny_config(setting), observer=Watcher())


def test_a_checkpoint_that_cannot_be_written_is_a_clear_error(tiny_config, monkeypatch, Watcher):
    def full(*args, **named):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint, "save_checkpoint", full)
    with pytest.raises(CheckpointError, match="could not be written.*No space left"):
        run.train(tiny_config(), observer=Watcher())


def test_what_this_version_cannot_do_is_refused_or_said(tiny_config, Watcher):
    config = tiny_config("LOSS.VGG_PERCEPTUAL.WEIGHT=0.1", "LOSS.VGG_PERCEPTUAL.WEIGHTS=/no/such.pth")
    with pytest.raises(CheckpointError, match="^LOSS.VGG_PERCEPTUAL.WEIGHTS: no file"):
        run.train(config, observer=Watcher())
    assert not (config.log.save_dir / "config.yaml").exists()  # known before anything is written
    watcher = Watcher()
    run.train(tiny_config("DATALOADER.PERSISTENT_WORKERS=false"), observer=watcher)
    assert [text.split(":")[0] for text in watcher.warnings] == ["DATALOADER.PERSISTENT_WORKERS"]


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


def weights_after(config, watcher):
    run.train(config, observer=watcher)
    (path,) = sorted((config.log.save_dir / "checkpoints").glob("*.pt"))[-1:]
    return torch.load(path, weights_only=True)["model"]


def remains(name):
    return [
        path.name for path in Path("/dev/shm").glob(f"deblurkit-cache-{os.getuid()}-*") if name in path.name
    ]


@pytest.mark.parametrize("way", ["cache", "packed", "device", "precomputed", "workers"])
def test_every_way_to_the_samples_trains_the_same_network(tiny_config, Watcher, dataset_root, tmp_path, way):
    """Bit for bit that of PNGs read and made into voxels by the training process."""
    expected = weights_after(tiny_config(), Watcher())
    root = shutil.copytree(dataset_root, tmp_path / "data")
    dataset = open_dataset(root)
    keys = {
        "cache": ["DATA.USE_RAM_CACHE=true", "DATA.CACHE_SIZE_GB=0.01"],
        "packed": [f"DATA.ROOT={tmp_path / 'packed'}"],
        "device": ["DATA.VOXELS_ON=device", "DATALOADER.TRAIN_WORKERS=1"],
        "precomputed": [f"DATA.ROOT={root}", "DATA.USE_PRECOMPUTED_VOXELS=true"],
        "workers": ["DATALOADER.TRAIN_WORKERS=2", "DATA.USE_RAM_CACHE=true", "DATA.CACHE_SIZE_GB=0.01"],
    }[way]
    if way == "packed":
        pack_dataset(dataset, tmp_path / "packed")
    if way == "precomputed":
        make_voxels(dataset, 4)
    watcher, before = Watcher(), remains("")
    config = tiny_config(*keys, f"LOG.SAVE_DIR={tmp_path / 'other'}")
    found = weights_after(config, watcher)
    assert expected.keys() == found.keys()
    assert all(torch.equal(found[key], value) for key, value in expected.items())
    assert remains("") == before
    said = any("Cache Stats" in text for text in watcher.messages)
    assert said == ("DATA.USE_RAM_CACHE=true" in keys)


def test_a_cache_is_never_larger_than_what_it_could_hold(tiny_config, Watcher):
    """15 pairs of 48 x 64 frames, each 9216 bytes or three pages."""
    watcher = Watcher()
    run.train(tiny_config("DATA.USE_RAM_CACHE=true", "DATA.CACHE_SIZE_GB=100000"), observer=watcher)
    (stats,) = [text for text in watcher.messages if "Cache Stats" in text]
    assert f" / {30 * 3 * 4096 / 2**20:.1f} MB" in stats


def test_a_cache_that_does_not_fit_is_refused_with_a_size_that_does(tiny_config, Watcher, monkeypatch):
    monkeypatch.setattr(parts, "decoded_bytes", lambda manifest: 2**50)
    with pytest.raises(DataError, match=r"DATA.CACHE_SIZE_GB: .* --set DATA.CACHE_SIZE_GB=[\d.]+"):
        run.train(tiny_config("DATA.USE_RAM_CACHE=true", "DATA.CACHE_SIZE_GB=100000"), observer=Watcher())


def test_a_packed_dataset_needs_no_cache(tiny_config, Watcher, dataset_root, tmp_path):
    pack_dataset(open_dataset(dataset_root), tmp_path / "packed")
    watcher = Watcher()
    run.train(tiny_config(f"DATA.ROOT={tmp_path / 'packed'}", "DATA.USE_RAM_CACHE=true"), observer=watcher)
    assert any(text.startswith("DATA.USE_RAM_CACHE: not needed") for text in watcher.messages)


def test_what_reading_a_sample_takes_is_said(tiny_config, Watcher):
    watcher = Watcher()
    run.train(tiny_config(), observer=watcher)
    assert all(progress.load_ms > 0 for progress in watcher.steps)


def test_a_file_in_the_place_of_the_folder_is_said(tiny_config, tmp_path, Watcher):
    (tmp_path / "file").touch()
    with pytest.raises(DeblurkitError, match="file is a file, a folder expected"):
        run.train(tiny_config(f"LOG.SAVE_DIR={tmp_path / 'file'}"), observer=Watcher())


def test_compiling_is_announced(tiny_config, Watcher, monkeypatch):
    monkeypatch.setattr(torch.nn.Module, "compile", lambda self, **named: None)
    watcher = Watcher()
    run.train(tiny_config("TRAIN.COMPILE_MODEL=true", "TRAIN.MAX_STEPS=2"), observer=watcher)
    assert watcher.messages[0] == "compiling: the first step takes minutes"


def test_a_cache_without_room_for_a_frame_is_refused(tiny_config, Watcher):
    keys = ("DATA.USE_RAM_CACHE=true", "DATA.CACHE_SIZE_GB=0.0000001")
    with pytest.raises(DataError, match="DATA.CACHE_SIZE_GB: expected room for a frame at least"):
        run.train(tiny_config(*keys), observer=Watcher())


@pytest.fixture
def runs_out(monkeypatch):
    """Return a function that has memory run out at a step (of all attempts together) while a batch is > 1."""

    def plant(at_step):
        steps, original = [], ClipUNet.forward

        def forward(self, blurry, spikes=None):
            if self.training and blurry.shape[0] > 1:
                steps.append(blurry.shape[0])
                if len(steps) >= at_step:
                    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
            return original(self, blurry, spikes)

        monkeypatch.setattr(ClipUNet, "forward", forward)

    return plant


HALVING = ["TRAIN.AUTO_HALVE_BATCH=true", "TRAIN.SCHED.TYPE=constant", "LOG.SAVE_EVERY_STEPS=2"]


class Plans:
    """Notes where each attempt begins, with what batch."""

    def __init__(self, watcher):
        self.made, self._watcher = [], watcher

    def __getattr__(self, name):
        return getattr(self._watcher, name)

    def started(self, plan):
        self.made.append((plan.first_step, plan.batch_size, plan.accumulation))


@pytest.mark.parametrize(
    ("at_step", "attempts"),
    [(1, [(1, 2, 1), (1, 1, 2)]), (2, [(1, 2, 1), (1, 1, 2)]), (4, [(1, 2, 1), (3, 1, 2)])],
)
def test_out_of_memory_goes_on_with_half_the_batch_from_what_is_saved(
    tiny_config, Watcher, runs_out, at_step, attempts
):
    """Before the first checkpoint (of step 2) that is the beginning."""
    runs_out(at_step)
    watcher = Plans(Watcher())
    summary = run.train(tiny_config(*HALVING), observer=watcher)
    assert summary.steps == 4 and watcher.made == attempts
    (said,) = [text for text in watcher.warnings if text.startswith("out of memory: ")]
    assert "TRAIN.BATCH_SIZE goes from 2 to 1" in said


@pytest.mark.parametrize(("at_step", "second"), [(1, 3), (2, 3), (3, 5)])
def test_a_run_from_elsewhere_that_runs_out_of_memory_does_not_begin_anew(
    tiny_config, Watcher, runs_out, tmp_path, at_step, second
):
    """It goes on from that file until its own folder has a checkpoint (of step 4)."""
    before = tiny_config("TRAIN.MAX_STEPS=2", "TRAIN.SCHED.TYPE=constant")
    run.train(before, observer=Watcher())
    file = before.log.save_dir / "checkpoints" / "step_00000002.pt"
    runs_out(at_step)
    config = tiny_config(*HALVING, f"LOG.SAVE_DIR={tmp_path / 'new'}", "TRAIN.MAX_STEPS=6")
    watcher = Plans(Watcher())
    assert run.train(config, observer=watcher, resume=str(file)).steps == 6
    assert watcher.made == [(3, 2, 1), (second, 1, 2)]


def test_a_batch_that_cannot_be_halved_is_explained(tiny_config, Watcher, monkeypatch):
    def full(self, blurry, spikes=None):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    monkeypatch.setattr(ClipUNet, "forward", full)
    with pytest.raises(DeblurkitError, match="memory has run out: 2.00 GiB asked for"):
        run.train(tiny_config("TRAIN.BATCH_SIZE=1", "TRAIN.AUTO_HALVE_BATCH=true"), observer=Watcher())


def test_a_checkpoint_is_not_kept_in_memory_once_it_is_taken_up(tiny_config, Watcher, monkeypatch):
    class State(dict):
        """A dictionary that can be watched."""

    run.train(tiny_config("TRAIN.MAX_STEPS=2"), observer=Watcher())
    load, seen = run.state_of_all, []

    def watched(*arguments, **named):
        state = State(load(*arguments, **named))
        seen.append(weakref.ref(state))
        return state

    class Looks(Watcher):
        def started(self, plan):
            seen.append(seen[0]() is None)

    monkeypatch.setattr(run, "state_of_all", watched)
    run.train(tiny_config(), observer=Looks(), resume="auto")
    assert seen[1:] == [True]


def test_a_folder_that_is_trained_in_is_refused(tiny_config, Watcher, monkeypatch):
    """As the kernel says where another process holds the lock (test_run_folder.py)."""

    def taken(descriptor, kind):
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr("deblurkit.training.run_folder.fcntl.lockf", taken)
    monkeypatch.setattr("deblurkit.training.run_folder.time.monotonic", iter(range(0, 1000, 20)).__next__)
    config = tiny_config()
    with pytest.raises(DeblurkitError, match="another process trains in it at this moment"):
        run.train(config, observer=Watcher())
    assert not (config.log.save_dir / "config.yaml").exists()


def test_a_rank_that_lost_another_says_so_in_the_record(tiny_config, Watcher, monkeypatch):
    """Not in gloo's words alone; here by a run that takes itself for rank 0 of two."""
    config = tiny_config()
    made = run._Run(*held_together(config, Watcher()))
    object.__setattr__(made, "ranks", Ranks(0, 2, 0, 2))
    monkeypatch.setattr(made, "_carry_out", lambda stop: raising(RuntimeError("gloo: Connection closed")))
    with contextlib.closing(made.parts), pytest.raises(LostPeer):
        made.carry_out(None)
    (part,) = json.loads((config.log.save_dir / "run.json").read_text())["parts"]
    assert part["status"] == "failed"
    assert part["error"].startswith("rank 0: another rank has ended or does not answer (gloo:")


def held_together(config, watcher):
    return parts.assemble(config, message=watcher.message, warn=watcher.warning), watcher, None


def raising(error):
    raise error
