import pytest
import torch

from deblurkit.config.schema import as_values
from deblurkit.errors import CheckpointError, DeblurkitError
from deblurkit.training import checkpoint, run
from deblurkit.training.distributed import Ranks
from deblurkit.training.resume import changes, state_of_all, state_to_resume


@pytest.fixture
def finished(tiny_config, Watcher):
    """The configuration of a run that is done, of the light network with spikes."""
    config = tiny_config("TRAIN.MAX_STEPS=2")
    run.train(config, observer=Watcher())
    return config


def refusal(config, resume, Watcher):
    """Return why a run is not resumed; nothing was said or drawn before."""
    watcher = Watcher()
    with pytest.raises(CheckpointError) as caught:
        run.train(config, observer=watcher, resume=resume)
    assert watcher.warnings == watcher.messages == []
    return str(caught.value)


def test_another_architecture_is_one_error_that_names_it(finished, tiny_config, tmp_path, Watcher):
    other = tiny_config(
        "MODEL.ARCH=vrt",
        "DATA.CROP_SIZE=64",
        "TRAIN.OPTIM.LR=0.1",
        "DATA.AUTO_SYNTHETIC=true",
        f"DATA.ROOT={tmp_path / 'drawn'}",
    )
    assert refusal(other, "auto", Watcher) == (
        "the checkpoint is of another network: MODEL.ARCH is baseline in the checkpoint and vrt here;"
        f" leave out --preset and --config: `--output {finished.log.save_dir} --resume auto` is enough"
    )
    assert not (tmp_path / "drawn").exists()


def test_other_sizes_are_named_and_no_folder_is_left(finished, tiny_config, tmp_path, Watcher):
    file = finished.log.save_dir / "checkpoints" / "step_00000002.pt"
    keys = ["MODEL.BASE_CHANNELS=6", "DATA.NUM_VOXEL_BINS=5", f"LOG.SAVE_DIR={tmp_path / 'new'}"]
    assert refusal(tiny_config(*keys), str(file), Watcher) == (
        "the checkpoint is of another network: DATA.NUM_VOXEL_BINS is 4 in the checkpoint and 5 here,"
        " MODEL.BASE_CHANNELS is 4 in the checkpoint and 6 here;"
        f" instead of --preset take --config {finished.log.save_dir / 'config.yaml'}"
    )
    assert not (tmp_path / "new").exists()


def test_keys_of_another_network_than_the_run_s_do_not_matter(finished, tiny_config):
    config = tiny_config("TRAIN.MAX_STEPS=2", "MODEL.VRT_DEPTHS=[2,2,2,2,2,2,2,2]")
    assert state_to_resume(config, "auto", warn=pytest.fail)["step"] == 2


def test_a_slip_in_resume_is_told_with_what_it_takes(finished, Watcher):
    folder = finished.log.save_dir
    assert refusal(finished, "autoo", Watcher) == (
        "--resume autoo: expected auto or a checkpoint file, found none"
    )
    assert refusal(finished, str(folder), Watcher).endswith(f"use --output {folder} --resume auto")


def test_the_best_checkpoint_starts_a_run_elsewhere_and_drops_no_later_step(finished, tiny_config, tmp_path):
    folder = finished.log.save_dir / "checkpoints"
    (early,) = checkpoint.checkpoints_in(folder)
    checkpoint.keep_best(folder, early, 30.0)
    elsewhere = tiny_config(f"LOG.SAVE_DIR={tmp_path / 'elsewhere'}")
    assert state_to_resume(elsewhere, str(folder / "best.pt"), warn=pytest.fail)["step"] == 2
    early.rename(checkpoint.checkpoint_path(folder, 3))
    with pytest.raises(DeblurkitError, match="holds step_00000003.pt, which is later"):
        state_to_resume(finished, str(folder / "best.pt"), warn=pytest.fail)


def test_changes_are_those_that_change_numbers_as_yaml():
    old = {"LOG": {"X": 1}, "MODEL": {"A": True, "B": [1, 2], "GONE": 1}, "SEED": None}
    new = {"LOG": {"X": 2}, "MODEL": {"A": False, "B": [1, 3], "NEW": 1}, "SEED": "auto"}
    assert list(changes(old, new)) == [
        ("MODEL.A", "true", "false"),
        ("MODEL.B", "[1, 2]", "[1, 3]"),
        ("SEED", "null", "auto"),
    ]
    assert list(changes({"PROMISE": {"LOW": 1.0}}, {"PROMISE": {"LOW": None}})) == []


def test_a_run_from_elsewhere_does_not_push_out_the_checkpoints_of_another(finished, tiny_config, tmp_path):
    """Not even where these are all of earlier steps, or where only the best one is left."""
    file = finished.log.save_dir / "checkpoints" / "step_00000002.pt"
    state = checkpoint.load_checkpoint(file)
    other = tmp_path / "other" / "checkpoints"
    other.mkdir(parents=True)
    config = tiny_config(f"LOG.SAVE_DIR={tmp_path / 'other'}")
    for name in ("step_00000001.pt", "best.pt"):
        torch.save(state | {"step": 1}, other / name)
        with pytest.raises(DeblurkitError, match="already holds a run, whose checkpoints would be lost"):
            state_to_resume(config, str(file), warn=pytest.fail)
        with pytest.raises(DeblurkitError, match="already holds a run; go on with it by --resume auto"):
            state_to_resume(config, None, warn=pytest.fail)
        (other / name).unlink()
    assert state_to_resume(config, str(file), warn=pytest.fail)["step"] == 2


class Told:
    """A rank beside rank 0, which tells it what it has chosen."""

    world_size, is_main = 2, False

    def __init__(self, chosen):
        self.chosen = chosen

    def from_main(self, value):
        return self.chosen


class Main(Ranks):
    """Rank 0 of two, which notes what it tells the other."""

    told = None

    def from_main(self, value):
        Main.told = value
        return value


def test_rank_0_chooses_the_checkpoint_and_the_others_do_not_look_for_it(finished, monkeypatch, tmp_path):
    """A network file system shows them a folder that is as it was before the last checkpoint."""
    folder = finished.log.save_dir / "checkpoints"
    assert state_of_all(finished, "auto", ranks=Main(0, 2), warn=pytest.fail)["step"] == 2
    monkeypatch.setattr(checkpoint, "checkpoints_in", lambda folder: [])
    assert state_of_all(finished, "auto", ranks=Told(Main.told), warn=pytest.fail)["step"] == 2
    elsewhere = Main.told | {"path": f"/mounted/otherwise/{folder.name}/step_00000002.pt"}
    assert state_of_all(finished, "auto", ranks=Told(elsewhere), warn=pytest.fail)["step"] == 2
    named = {"trouble": None, "path": str(folder / "step_00000002.pt"), "is_own": False}
    assert state_of_all(finished, "auto", ranks=Told(named), warn=pytest.fail)["step"] == 2
    nowhere = named | {"path": str(tmp_path / "none.pt")}
    assert state_of_all(finished, "auto", ranks=Told(nowhere), warn=pytest.fail) is None
    nothing = {"trouble": None, "path": None, "is_own": False}
    assert state_of_all(finished, "auto", ranks=Told(nothing), warn=pytest.fail) is None


def test_what_keeps_rank_0_from_going_on_is_an_error_on_all(finished):
    with pytest.raises(DeblurkitError) as caught:
        state_of_all(finished, None, ranks=Main(0, 2), warn=pytest.fail)
    with pytest.raises(DeblurkitError) as other:
        state_of_all(finished, None, ranks=Told(Main.told), warn=pytest.fail)
    assert str(caught.value) == str(other.value)
    assert "already holds a run; go on with it by --resume auto" in str(other.value)


@pytest.mark.parametrize(
    "setting",
    [
        "TRAIN.AUTO_HALVE_BATCH=true",
        "TRAIN.RANK_TIMEOUT_MINUTES=7",
        "DATA.USE_RAM_CACHE=true",
        "DATA.CACHE_SIZE_GB=1",
        "DATA.VOXELS_ON=worker",
    ],
)
def test_what_changes_no_number_is_no_change(tiny_config, setting):
    """That samples are the same by every way is tested in test_run.py."""
    assert list(changes(as_values(tiny_config()), as_values(tiny_config(setting)))) == []
