import pytest
import torch

from deblurkit.errors import CheckpointError
from deblurkit.models.registry import build_model
from deblurkit.training import run
from deblurkit.training.losses import Inputs, charbonnier
from deblurkit.training.objective import objective_of
from deblurkit.training.observer import Silent
from deblurkit.training.precision import Precision

CPU = torch.device("cpu")


def objective(config):
    torch.manual_seed(0)
    student = build_model(config.model, num_voxel_bins=config.data.num_voxel_bins)
    return objective_of(config, model=student, precision=Precision(CPU, None), warn=pytest.fail)


def inputs():
    generator = torch.Generator().manual_seed(1)
    frames = torch.rand(1, 3, 3, 32, 32, generator=generator)
    return Inputs(frames, torch.rand(1, 3, 4, 16, 16, generator=generator), frames.flip(-1))


def test_a_plain_configuration_is_the_charbonnier_loss(tiny_config):
    config = tiny_config("LOSS.CHARBONNIER.WEIGHT=2.0")
    given = inputs()
    loss = objective(config).at(1)(given.blurry, given)
    assert loss.item() == pytest.approx(2 * charbonnier(given.blurry, given.sharp, delta=1e-3).item())


def test_a_teacher_adds_the_distance_to_what_it_makes_of_the_clip(tiny_config, tmp_path):
    taught = tmp_path / "teacher"
    run.train(tiny_config(f"LOG.SAVE_DIR={taught}", "TRAIN.MAX_STEPS=2"), observer=Silent())
    given = inputs()
    made = objective(tiny_config(f"TRAIN.DISTILL.TEACHER={taught}", "TRAIN.DISTILL.WEIGHT=0.5"))
    loss = made.at(1)(given.blurry, given)
    assert set(made.terms()) == {"charbonnier", "distillation"}
    assert loss.item() == pytest.approx(sum(term.item() for term in made.terms().values()))


def test_a_teacher_that_is_missing_is_named_with_its_key(tiny_config):
    with pytest.raises(CheckpointError, match="^TRAIN.DISTILL.TEACHER: /no/such"):
        objective(tiny_config("TRAIN.DISTILL.TEACHER=/no/such.pt"))
