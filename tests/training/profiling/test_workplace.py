import torch

from deblurkit.timing.clock import HostClock
from deblurkit.training.profiling.workplace import random_clips, workplace


def quiet(text):
    pass


def test_random_clips_have_the_configured_size_and_are_the_same_each_time(tiny_config):
    config = tiny_config("DATA.TRAIN_CROP_SIZE=[16, 24]", "DATA.TRAIN_CROP_EPOCHS=1")
    clip = random_clips(config, torch.device("cpu"))
    assert clip.blurry.shape == clip.sharp.shape == (2, 3, 3, 16, 16)
    assert clip.spikes.shape == (2, 3, 4, 8, 8) and clip.blurry.dtype == torch.uint8
    assert all(map(torch.equal, clip, random_clips(config, torch.device("cpu"))))


def test_steps_count_on_and_take_their_micro_steps(tiny_config):
    config = tiny_config("TRAIN.GRADIENT_ACCUMULATION_STEPS=3")
    with workplace(config, steps=3, use_data=False, message=quiet, warn=quiet) as place:
        (first,) = place.take_steps(1, HostClock(), accumulation=1)
        (second,) = place.take_steps(1, HostClock())
        assert (first.step, first.samples, second.step, second.samples) == (1, 2, 2, 6)
        kept = {id(tensor) for tensor in place.kept_tensors()}
        assert {id(weights) for weights in place.model.parameters()} < kept
    assert not list(config.log.save_dir.parent.glob("run"))


def test_the_run_s_loader_gives_as_many_batches_as_are_asked_for(tiny_config):
    with workplace(
        tiny_config("TRAIN.MAX_STEPS=2"), steps=4, use_data=True, message=quiet, warn=quiet
    ) as place:
        assert len(list(place.take_steps(4, HostClock()))) == 4
        assert not place.is_synthetic and place.spikes_shape == (2, 3, 4, 16, 16)
