import pytest
import torch

from deblurkit.config.sections.data import DataSection
from deblurkit.data.synthetic import make_synthetic
from deblurkit.data.unified import open_dataset
from deblurkit.errors import CheckpointError, DataError, DeblurkitError
from deblurkit.training import held_out, parts, run


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
        held_out.evaluation_clips(type(dataset)(root=dataset.root, manifest=small), section, split="test")


def test_a_split_without_sequences_is_named(dataset_root):
    dataset = open_dataset(dataset_root)
    emptied = dataset.manifest.model_copy(update={"sequences": []})
    with pytest.raises(DataError, match="split train holds no sequence"):
        held_out.sequences_of(type(dataset)(root=dataset.root, manifest=emptied), "train")


VRT = [
    "MODEL.ARCH=vrt",
    "DATA.CROP_SIZE=40",
    "DATA.CLIP_LEN=2",
    "MODEL.VRT_DEPTHS=[1,1,1,1,1,1,1,1]",
    "MODEL.CHANNELS_PER_SCALE=[4,4,4,4]",
    "MODEL.VRT.EMBED_DIMS=[8,8]",
    "MODEL.VRT.NUM_HEADS=2",
    "MODEL.VRT.DEFORMABLE_GROUPS=2",
]


@pytest.mark.parametrize(
    "window, fits, needed",
    [
        ("[2,4,4]", True, None),
        ("[2,6,8]", True, None),  # 48 x 64, which the frames just have
        ("[2,6,9]", False, "48 x 72"),
        ("[2,7,8]", False, "56 x 64"),
        ("[2,4,10]", False, "33 x 80"),
    ],
)
def test_frames_too_small_for_the_network_are_refused_with_both_sizes(tiny_config, window, fits, needed):
    """Closed form: eight times the window, and 33 px for the flow; the dataset's frames are 48 x 64."""
    config = tiny_config(*VRT, f"MODEL.WINDOW_SIZE={window}", "DATA.CROP_SIZE=96")
    if fits:
        assert held_out.held_out_part(config).clips is not None
        return
    with pytest.raises(DataError, match=f"frames of 48 x 64 px are too small .* need {needed};") as caught:
        held_out.held_out_part(config)
    assert str(config.data.root) in str(caught.value)


@pytest.mark.parametrize("frames", [1, 2])
def test_a_sequence_too_short_for_the_network_is_named(tiny_config, tmp_path, frames):
    root = tmp_path / "short"
    dataset = make_synthetic(root, seed=1, num_train=1, num_test=1, frames_per_sequence=frames, size=(48, 64))
    (sequence,) = dataset.sequences("test")
    vrt = tiny_config(*VRT, "MODEL.WINDOW_SIZE=[2,4,4]", f"DATA.ROOT={root}")
    assert len(held_out.held_out_part(tiny_config(f"DATA.ROOT={root}")).clips) > 0
    if frames == 2:
        assert len(held_out.held_out_part(vrt).clips) > 0
        return
    with pytest.raises(DataError, match=f"{sequence.name} has 1 frame, MODEL.ARCH needs 2"):
        held_out.held_out_part(vrt)


def test_a_new_run_starts_from_pretrained_weights_and_says_so(tiny_config, tmp_path):
    def assembled(*more, **options):
        messages = []
        made = parts.assemble(tiny_config(*more), message=messages.append, warn=pytest.fail, **options)
        return made.model.state_dict(), messages

    def equal(one, other):
        return all(torch.equal(one[name], other[name]) for name in one)

    path = tmp_path / "weights.pth"
    published = {name: value + 1 for name, value in assembled()[0].items()}
    torch.save(published, path)
    weights, messages = assembled(f"MODEL.PRETRAINED={path}")
    assert equal(weights, published)
    assert messages == [f"{path}: {len(published)} tensors loaded"]
    weights, messages = assembled(f"MODEL.PRETRAINED={path}", from_pretrained=False)
    assert equal(weights, assembled()[0]) and messages == []


def test_pretrained_weights_that_do_not_fit_end_the_run_before_it_starts(tiny_config, tmp_path):
    path = tmp_path / "weights.pth"
    torch.save({"frames_in.weight": torch.zeros(1)}, path)
    with pytest.raises(CheckpointError, match="expected the weights of the network in the MODEL section"):
        parts.assemble(tiny_config(f"MODEL.PRETRAINED={path}"), message=pytest.fail, warn=pytest.fail)


def test_a_run_that_goes_on_does_without_the_pretrained_weights(tiny_config, tmp_path, Watcher):
    path = tmp_path / "weights.pth"
    torch.save(parts.build_model(tiny_config().model, num_voxel_bins=4).state_dict(), path)
    began, went_on = Watcher(), Watcher()
    run.train(tiny_config(f"MODEL.PRETRAINED={path}", "TRAIN.MAX_STEPS=2"), observer=began)
    path.unlink()
    more = tiny_config(f"MODEL.PRETRAINED={path}", "TRAIN.MAX_STEPS=3")
    assert run.train(more, observer=went_on, resume="auto").steps == 3
    assert [str(path) in " ".join(watcher.messages) for watcher in (began, went_on)] == [True, False]
