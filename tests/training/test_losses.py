import math

import pytest
import torch
from torch import nn

from deblurkit.config.sections.train import LossSection
from deblurkit.errors import CheckpointError, ConfigError
from deblurkit.training.losses import (
    EveryStep,
    Inputs,
    OnFrames,
    Term,
    WeightedSum,
    build_objective,
    charbonnier,
)
from deblurkit.training.perceptual import load_lpips, load_vgg

CPU = torch.device("cpu")


def clip(value=None, *, seed=0):
    """Return (restored, inputs) of 2 clips of 3 frames; restored is ``value`` away from sharp, or random."""
    generator = torch.Generator().manual_seed(seed)
    sharp = torch.rand(2, 3, 3, 32, 32, generator=generator)
    restored = torch.rand(sharp.shape, generator=generator) if value is None else sharp + value
    return restored, Inputs(blurry=sharp * 0.5, voxels=None, sharp=sharp)


def test_charbonnier_is_the_mean_of_the_root():
    a, b = torch.tensor([0.0, 0.3]), torch.tensor([0.0, 0.7])
    expected = (0.001 + math.sqrt(0.4**2 + 0.001**2)) / 2
    assert charbonnier(a, b, delta=0.001).item() == pytest.approx(expected, rel=1e-6)


def test_half_precision_inputs_do_not_lose_delta():
    zero = torch.zeros(4, dtype=torch.float16)
    assert charbonnier(zero, zero, delta=1e-6).item() == pytest.approx(1e-6)  # 1e-12 is 0 in float16


def section(**losses):
    return LossSection.model_validate({name.upper(): values for name, values in losses.items()})


def test_by_default_the_loss_is_charbonnier_s_alone():
    objective = build_objective(section(charbonnier={"WEIGHT": 2.0, "DELTA": 0.3}))
    loss = objective.at(1)(*clip(0.4))
    assert loss.item() == pytest.approx(2 * 0.5, rel=1e-5)  # sqrt(0.4^2 + 0.3^2) = 0.5
    assert objective.kept_tensors() == []


def constant(name, value, *, weight=1.0, every_n_steps=1):
    return Term(name, weight, lambda restored, inputs: restored.mean() * 0 + value, every_n_steps)


def test_a_term_is_there_in_the_steps_that_its_number_divides_and_not_scaled_for_it():
    objective = WeightedSum([constant("a", 1.0), constant("b", 10.0, weight=2.0, every_n_steps=3)])
    losses = [objective.at(step)(*clip(0.0)).item() for step in range(1, 8)]
    assert losses == [1, 1, 21, 1, 1, 21, 1]


def test_terms_tell_what_each_last_added_as_the_mean_over_micro_steps():
    objective = WeightedSum(
        [
            Term("error", 2.0, lambda restored, inputs: (restored - inputs.sharp).mean()),
            constant("rare", 4.0, weight=0.5, every_n_steps=2),
        ]
    )
    assert objective.terms() == {}
    objective.at(1)(*clip(0.25))
    assert {name: value.item() for name, value in objective.terms().items()} == {"error": pytest.approx(0.5)}
    loss = objective.at(2)
    parts = [loss(*clip(value)).item() for value in (0.25, 0.75)]
    terms = {name: value.item() for name, value in objective.terms().items()}
    assert terms == {"error": pytest.approx(1.0), "rare": pytest.approx(2.0)}
    assert sum(terms.values()) == pytest.approx(sum(parts) / 2)
    objective.at(3)(*clip(0.5))
    terms = {name: value.item() for name, value in objective.terms().items()}
    assert terms == {"error": pytest.approx(1.0), "rare": pytest.approx(2.0)}  # the rare one is of step 2


def test_terms_that_are_not_in_every_step_are_known():
    terms = [
        constant("a", 1.0),
        constant("b", 1.0, every_n_steps=3),
        constant("c", 1.0, weight=0.0, every_n_steps=2),
    ]
    assert WeightedSum(terms).rare_terms() == {"b"}
    assert EveryStep(lambda restored, inputs: restored.mean()).rare_terms() == frozenset()


def test_networks_of_the_terms_are_told_apart_by_their_weights():
    def objective(value):
        network = nn.Linear(2, 1)
        nn.init.constant_(network.weight, value)
        nn.init.zeros_(network.bias)
        return WeightedSum([constant("plain", 1.0), Term("taught", 1.0, network)])

    assert objective(0.5).fingerprints() == objective(0.5).fingerprints()
    assert objective(0.5).fingerprints().keys() == {"taught"}
    assert objective(0.5).fingerprints() != objective(0.25).fingerprints()
    assert EveryStep(nn.Linear(2, 1)).fingerprints() == {}


def test_terms_hold_no_graph():
    objective = WeightedSum([Term("error", 1.0, lambda restored, inputs: restored.mean())])
    restored, inputs = clip()
    objective.at(1)(restored.requires_grad_(), inputs)
    assert not objective.terms()["error"].requires_grad


def test_gradients_are_those_of_the_weighted_sum():
    terms = [
        Term("mean", 0.5, lambda restored, inputs: restored.mean()),
        Term("square", 3.0, lambda restored, inputs: restored.square().mean()),
    ]
    restored, inputs = clip()
    WeightedSum(terms).at(1)(restored.requires_grad_(), inputs).backward()
    expected = (0.5 + 3 * 2 * restored.detach()) / restored.numel()
    torch.testing.assert_close(restored.grad, expected)


@pytest.mark.parametrize(
    ("losses", "what"),
    [
        ({"charbonnier": {"WEIGHT": 0.0}}, "got terms not at all; set LOSS.CHARBONNIER.WEIGHT above 0"),
        ({"charbonnier": {"EVERY_N_STEPS": 2}}, "got terms only in every few steps; set"),
    ],
)
def test_a_step_without_any_loss_is_refused(losses, what):
    with pytest.raises(ConfigError, match=f"LOSS: expected a term in every step, {what}"):
        build_objective(section(**losses))


def test_a_term_from_elsewhere_can_be_all_there_is():
    objective = build_objective(section(charbonnier={"WEIGHT": 0.0}), more=[constant("other", 3.0)])
    assert objective.at(1)(*clip()).item() == 3
    assert list(objective.terms()) == ["other"]


def saved_layers(path, shapes):
    """Write convolutions of small random weights under torchvision's names, and return the path."""
    generator = torch.Generator().manual_seed(3)
    weights = {}
    for number, shape in shapes.items():
        weights[f"features.{number}.weight"] = torch.randn(shape, generator=generator) * 0.1
        weights[f"features.{number}.bias"] = torch.full(shape[:1], 0.1)
    torch.save(weights, path)
    return path


VGG19_TO_RELU1_2 = {0: (64, 3, 3, 3), 2: (64, 64, 3, 3)}
ALEXNET = {
    0: (64, 3, 11, 11),
    3: (192, 64, 5, 5),
    6: (384, 192, 3, 3),
    8: (256, 384, 3, 3),
    10: (256, 256, 3, 3),
}


def test_the_sections_weights_files_and_steps_are_followed(tmp_path):
    vgg = saved_layers(tmp_path / "vgg19.pth", VGG19_TO_RELU1_2)
    alex = saved_layers(tmp_path / "alexnet.pth", ALEXNET)
    objective = build_objective(
        section(
            charbonnier={"WEIGHT": 0.5},
            vgg_perceptual={"WEIGHT": 0.1, "LAYERS": ["relu1_2"], "WEIGHTS": str(vgg), "EVERY_N_STEPS": 2},
            lpips={"WEIGHT": 0.2, "NET": "alex", "WEIGHTS": str(alex), "EVERY_N_STEPS": 3},
        ),
        device=CPU,
    )
    restored, inputs = clip()
    frames, sharp = restored.flatten(0, 1), inputs.sharp.flatten(0, 1)
    pixel = 0.5 * charbonnier(restored, inputs.sharp, delta=1e-3).item()
    features = 0.1 * load_vgg(["relu1_2"], vgg, CPU)(frames, sharp).mean().item()
    learned = 0.2 * load_lpips("alex", alex, CPU)(frames, sharp).mean().item()
    assert min(features, learned) > 1e-4
    losses = [objective.at(step)(restored, inputs).item() for step in (1, 2, 3, 6)]
    expected = [pixel, pixel + features, pixel + learned, pixel + features + learned]
    assert losses == pytest.approx(expected, rel=1e-5)
    assert list(objective.terms()) == ["charbonnier", "vgg_perceptual", "lpips"]
    sizes = sum(tensor.numel() for tensor in objective.kept_tensors())
    alexnet = sum(math.prod(shape) + shape[0] for shape in ALEXNET.values())
    heads = 64 + 192 + 384 + 256 + 256
    assert sizes == (64 * 28 + 64 * 577) + alexnet + heads + 2 * 6  # and mean and std of both


def test_weights_of_a_term_without_weight_are_not_looked_for(tmp_path):
    missing = str(tmp_path / "none.pth")
    build_objective(section(vgg_perceptual={"WEIGHTS": missing}, lpips={"WEIGHTS": missing}))
    with pytest.raises(CheckpointError, match=f"^LOSS.LPIPS.WEIGHTS: no file {missing}"):
        build_objective(section(lpips={"WEIGHT": 1.0, "WEIGHTS": missing}))


def test_a_distance_between_images_is_averaged_over_every_frame():
    class First(nn.Module):
        def forward(self, restored, sharp):
            return restored[:, 0, 0, 0] - 2 * sharp[:, 0, 0, 0]

    restored, inputs = clip()
    pairs = [(b, t) for b in range(2) for t in range(3)]
    expected = sum(restored[b, t, 0, 0, 0] - 2 * inputs.sharp[b, t, 0, 0, 0] for b, t in pairs) / 6
    assert OnFrames(First())(restored, inputs).item() == pytest.approx(expected.item(), rel=1e-5)


def test_a_loss_of_every_step_has_no_parts_and_keeps_what_a_module_holds():
    linear = nn.Linear(2, 3)
    objective = EveryStep(linear)
    assert objective.at(7) is linear and objective.terms() == {}
    assert [tensor.numel() for tensor in objective.kept_tensors()] == [6, 3]
    assert EveryStep(lambda restored, inputs: restored.mean()).kept_tensors() == []
