import math

import pytest
import torch
from torch import nn

from deblurkit.config.sections.train import OptimSection, SchedSection
from deblurkit.training.optim import Schedule, build_optimizer, build_schedule

CPU = torch.device("cpu")


def test_the_rate_warms_up_and_comes_down_in_half_a_cosine():
    rate = Schedule(kind="cosine", peak_lr=1.0, min_lr=0.1, warmup_steps=10, total_steps=110)
    assert [rate(1), rate(5), rate(10)] == [0.1, 0.5, 1.0]
    assert rate(60) == pytest.approx(0.55)  # half way: the mean of peak and least
    assert rate(35) == pytest.approx(0.1 + 0.9 * (1 + math.cos(math.pi / 4)) / 2)
    assert rate(110) == pytest.approx(0.1)


def test_a_constant_rate_stays_after_the_warm_up():
    rate = Schedule(kind="constant", peak_lr=1.0, min_lr=0.0, warmup_steps=0, total_steps=10)
    assert [rate(1), rate(10), rate(99)] == [1.0, 1.0, 1.0]


def test_linear_scaling_follows_the_effective_batch():
    optim = OptimSection.model_validate({"LR": 1e-4, "LR_SCALING": "linear", "BASE_BATCH_SIZE": 8})
    sched = SchedSection.model_validate({"WARMUP_STEPS": 500})
    schedule = build_schedule(sched, optim, total_steps=100, effective_batch=24)
    assert schedule.peak_lr == pytest.approx(3e-4)
    assert schedule.warmup_steps == 100  # a run shorter than its warm-up


def test_norms_and_biases_do_not_decay():
    model = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4))
    section = OptimSection.model_validate({"WEIGHT_DECAY": 0.5})
    optimizer = build_optimizer(section, model, device=CPU, warn=pytest.fail)
    decay = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    assert {name: decay[id(p)] for name, p in model.named_parameters()} == {
        "0.weight": 0.5,
        "0.bias": 0.0,
        "1.weight": 0.0,
        "1.bias": 0.0,
    }


class WithParts(nn.Module):
    """Parts with the names of VRT's, each with a matrix and a vector."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(2, 2)
        self.spynet = nn.Linear(2, 2)
        self.stage = nn.ModuleDict({"pa_deform": nn.Linear(2, 2), "mlp": nn.Linear(2, 2)})
        self.spike_encoder = nn.Linear(2, 2)
        self.fusion = nn.ModuleList([nn.Linear(2, 2)])


def of_each_parameter(optimizer, model, key):
    found = {id(p): group[key] for group in optimizer.param_groups for p in group["params"]}
    return {name: found[id(p)] for name, p in model.named_parameters()}


@pytest.mark.parametrize("kind", ["adamw", "adamw8bit"])
def test_flow_and_spikes_have_the_share_of_the_rate_that_the_section_gives_them(kind):
    model = WithParts()
    section = OptimSection.model_validate(
        {"TYPE": kind, "FLOW_LR_FACTOR": 0.25, "SPIKE_LR_FACTOR": 3.0, "WEIGHT_DECAY": 0.5}
    )
    optimizer = build_optimizer(section, model, device=CPU, warn=pytest.fail)
    factors = {"first": 1.0, "spynet": 0.25, "stage.pa_deform": 0.25, "stage.mlp": 1.0}
    factors |= {"spike_encoder": 3.0, "fusion.0": 3.0}
    expected = {f"{name}.{leaf}": factors[name] for name in factors for leaf in ("weight", "bias")}
    assert of_each_parameter(optimizer, model, "lr_factor") == expected
    decays = of_each_parameter(optimizer, model, "weight_decay")
    assert decays == {name: 0.5 if name.endswith("weight") else 0.0 for name in expected}
    assert len(optimizer.param_groups) == 6


def test_what_is_frozen_now_is_in_the_optimiser_for_later():
    model = WithParts()
    model.spynet.requires_grad_(False)
    optimizer = build_optimizer(OptimSection(), model, device=CPU, warn=pytest.fail)
    held = {id(p) for group in optimizer.param_groups for p in group["params"]}
    assert held == {id(p) for p in model.parameters()}


def test_a_network_without_such_parts_has_a_group_of_matrices_and_one_of_vectors():
    """In the order in which earlier checkpoints hold their states."""
    model = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.Linear(4, 2))
    section = OptimSection.model_validate(
        {"WEIGHT_DECAY": 0.5, "FLOW_LR_FACTOR": 0.25, "SPIKE_LR_FACTOR": 3.0}
    )
    matrices, vectors = build_optimizer(section, model, device=CPU, warn=pytest.fail).param_groups
    assert [id(p) for p in matrices["params"]] == [id(model[0].weight), id(model[2].weight)]
    assert [id(p) for p in vectors["params"]] == [
        id(p) for p in (model[0].bias, model[1].weight, model[1].bias, model[2].bias)
    ]
    assert [(group["weight_decay"], group["lr_factor"]) for group in (matrices, vectors)] == [
        (0.5, 1),
        (0, 1),
    ]


def test_adamw8bit_keeps_its_states_in_eight_bits():
    model = nn.Linear(128, 64, bias=False)
    section = OptimSection.model_validate({"TYPE": "adamw8bit"})
    optimizer = build_optimizer(section, model, device=CPU, warn=pytest.fail)
    model(torch.randn(2, 128)).square().mean().backward()
    optimizer.step()
    (state,) = optimizer.state.values()
    assert state["state1"].dtype == torch.uint8


def test_without_bitsandbytes_adamw_takes_its_place_with_a_warning(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "bitsandbytes.optim", None)
    warnings = []
    section = OptimSection.model_validate({"TYPE": "adamw8bit"})
    optimizer = build_optimizer(section, nn.Linear(2, 2), device=CPU, warn=warnings.append)
    assert type(optimizer) is torch.optim.AdamW
    assert warnings == ["TRAIN.OPTIM.TYPE: bitsandbytes is not installed; using adamw instead of adamw8bit"]


def test_adamw_takes_its_step_in_one_kernel_and_still_as_the_formula_says():
    """Kingma and Ba's algorithm 1 with Loshchilov and Hutter's decoupled decay, first step."""
    layer = nn.Linear(1, 1, bias=False)
    section = OptimSection.model_validate({"LR": 0.1, "BETAS": [0.9, 0.99], "WEIGHT_DECAY": 0.5})
    optimizer = build_optimizer(section, layer, device=CPU, warn=pytest.fail)
    assert all(group["fused"] for group in optimizer.param_groups)
    before = layer.weight.item()
    layer.weight.grad = torch.full((1, 1), 3.0)
    optimizer.step()
    # Both moments without their bias are the gradient and its square, so the step is lr * sign(gradient).
    assert layer.weight.item() == pytest.approx(before * (1 - 0.1 * 0.5) - 0.1, rel=1e-5)
