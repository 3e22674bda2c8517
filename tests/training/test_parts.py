import pytest
import torch

from deblurkit.config.sections import DataSection
from deblurkit.data.unified import open_dataset
from deblurkit.errors import DataError, DeblurkitError
from deblurkit.training import parts


def test_a_gpu_that_is_not_there_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(DeblurkitError, match="TRAIN.DEVICE: cuda was asked for"):
        parts.pick_device("cuda")
    assert parts.pick_device("auto") == parts.pick_device("cpu") == torch.device("cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert parts.pick_device("auto") == torch.device("cuda", 0)


def test_epochs_and_max_steps_bound_the_run(tiny_config):
    def steps(*more):
        made = parts.assemble(tiny_config(*more), message=lambda t: None, warn=lambda t: None)
        return made.batches_per_epoch, made.total_steps

    assert steps() == (3, 4)  # six clips, batches of two
    assert steps("TRAIN.EPOCHS=1") == (3, 3)
    # Three passes over three batches are nine micro-steps: four steps of two, not three.
    assert steps("TRAIN.GRADIENT_ACCUMULATION_STEPS=2", "TRAIN.EPOCHS=3", "TRAIN.MAX_STEPS=null") == (3, 4)
    assert steps("TRAIN.GRADIENT_ACCUMULATION_STEPS=6", "TRAIN.EPOCHS=1", "TRAIN.MAX_STEPS=null") == (3, 1)


def test_epochs_end_in_the_step_that_takes_their_last_batch(tiny_config):
    made = parts.assemble(
        tiny_config("TRAIN.GRADIENT_ACCUMULATION_STEPS=2"), message=lambda t: None, warn=lambda t: None
    )
    # Three batches an epoch, two a step: epochs end with batches 3, 6, 9, 12, in steps 2, 3, 5, 6.
    assert [step for step in range(1, 7) if made.ends_epochs(step, every=1)] == [2, 3, 5, 6]
    assert [step for step in range(1, 7) if made.ends_epochs(step, every=2)] == [3, 6]
    assert not any(made.ends_epochs(step, every=0) for step in range(1, 7))


def test_the_seed_decides_the_weights(tiny_config):
    def weights(*more):
        model = parts.assemble(tiny_config(*more), message=lambda t: None, warn=lambda t: None).model
        return model.state_dict()["frames_in.weight"]

    assert torch.equal(weights(), weights())
    assert not torch.equal(weights(), weights("SEED=4"))


def test_the_synthetic_set_is_drawn_where_nothing_is(tiny_config, tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(parts, "make_synthetic", lambda root, *, seed: drawn.append((root, seed)))
    section = tiny_config(f"DATA.ROOT={tmp_path / 'new'}", "SEED=9").data
    with pytest.raises(DataError):
        parts.open_training_data(section, seed=9, message=lambda t: None)
    assert drawn == [(tmp_path / "new", 9)]
    parts.open_training_data(tiny_config().data, seed=9, message=pytest.fail)  # there already


def test_frames_too_small_to_score_are_refused(dataset_root):
    dataset = open_dataset(dataset_root)
    small = dataset.manifest.model_copy(update={"frame_shape": (10, 64)})
    section = DataSection.model_validate({"NUM_VOXEL_BINS": 4})
    with pytest.raises(DataError, match="at least 11 pixels"):
        parts._evaluation_clips(type(dataset)(root=dataset.root, manifest=small), section, split="test")


def test_a_split_without_sequences_is_named(dataset_root):
    dataset = open_dataset(dataset_root)
    emptied = dataset.manifest.model_copy(update={"sequences": []})
    with pytest.raises(DataError, match="split train holds no sequence"):
        parts.sequences_of(type(dataset)(root=dataset.root, manifest=emptied), "train")
