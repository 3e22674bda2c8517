import math

import pytest
import torch
from torch import nn

from deblurkit.config.sections import OptimSection, SchedSection
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
