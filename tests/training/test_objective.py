import pytest
import torch

from deblurkit.errors import CheckpointError, DeblurkitError
from deblurkit.models.registry import build_model
from deblurkit.training import run
from deblurkit.training.distributed import ALONE
from deblurkit.training.losses import Inputs, charbonnier
from deblurkit.training.objective import lpips_of, objective_of
from deblurkit.training.observer import Silent
from deblurkit.training.precision import Precision
from deblurkit.training.validate import Lpips

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


@pytest.mark.parametrize("keys", [("DATA.CROP_SIZE=24",), ("DATA.TRAIN_CROP_SIZE=16",)])
def test_a_crop_too_small_for_a_loss_is_found_before_the_first_step(tiny_config, keys):
    """At step 4 at the latest it would be; its weights need not even be there."""
    lpips = ("LOSS.LPIPS.WEIGHT=0.1", "LOSS.LPIPS.EVERY_N_STEPS=4", "LOSS.LPIPS.WEIGHTS=/no/such.pth")
    with pytest.raises(
        DeblurkitError, match="LOSS.LPIPS: alexnet needs crops of at least 31 px, got (16|24) "
    ):
        objective(tiny_config(*keys, *lpips))
    with pytest.raises(CheckpointError, match="/no/such.pth"):
        objective(tiny_config("DATA.CROP_SIZE=32", *lpips))


class Two:
    """Two ranks, of which the other one has said something."""

    def __init__(self, told):
        self.told = told

    def gather(self, value):
        return [value, self.told]


def measure(config, shape=(48, 64), ranks=ALONE):
    warnings = []
    found = lpips_of(config, frame_shape=shape, device=CPU, ranks=ranks, warn=warnings.append)
    return found, warnings


def test_a_metric_without_weights_is_a_warning(tiny_config, tmp_path):
    missing = f"LOSS.LPIPS.WEIGHTS={tmp_path / 'none.pth'}"
    assert measure(tiny_config(missing)) == (None, [])
    found, (warning,) = measure(tiny_config(missing, "LOG.METRICS_EVERY_EPOCHS=1"))
    assert found is None
    assert warning.startswith("LOG.METRICS_EVERY_EPOCHS: LPIPS is not measured: LOSS.LPIPS.WEIGHTS: no file")


def test_a_metric_is_the_same_on_all_ranks_or_on_none(tiny_config, monkeypatch):
    monkeypatch.setattr("deblurkit.training.objective.load_lpips", lambda net, weights, device: net)
    config = tiny_config("LOG.METRICS_EVERY_EPOCHS=1")
    assert measure(config, ranks=Two(None))[0] == Lpips("alex", "alex")
    assert measure(config, ranks=Two("no file")) == (
        None,
        ["LOG.METRICS_EVERY_EPOCHS: LPIPS is not measured: no file"],
    )
    assert "needs frames of at least 31 px, got 24" in measure(config, shape=(24, 64))[1][0]
