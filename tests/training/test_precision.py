import pytest
import torch
from torch import nn

from deblurkit.config.sections.train import TrainSection
from deblurkit.training.guard import NonFiniteGuard
from deblurkit.training.precision import Precision

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("keys", "dtype"),
    [
        ({}, None),
        ({"AMP_ENABLED": True}, torch.bfloat16),
        ({"AMP_ENABLED": True, "AMP_DTYPE": "fp16", "AMP_OPT_LEVEL": "O2"}, torch.float16),
        ({"AMP_ENABLED": True, "AMP_OPT_LEVEL": "O0"}, None),
    ],
)
def test_the_keys_decide_the_type(keys, dtype):
    precision = Precision.from_section(TrainSection.model_validate(keys), CPU)
    assert precision.dtype is dtype
    with precision.autocast():
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype is (dtype or torch.float32)


def test_gradients_are_clipped_to_the_norm_after_unscaling():
    for dtype in (None, torch.float16):
        precision, layer = Precision(CPU, dtype), nn.Linear(1, 1, bias=False)
        optimizer = torch.optim.SGD(layer.parameters(), lr=1.0)
        before = layer.weight.item()
        precision.backward((layer.weight * 30).sum())  # a gradient of 30
        precision.step(optimizer, layer, max_grad_norm=1.0)
        assert before - layer.weight.item() == pytest.approx(1.0, rel=1e-4)
        assert layer.weight.grad is None


def test_a_float16_scaler_comes_back_from_its_state():
    first, second = Precision(CPU, torch.float16), Precision(CPU, torch.float16)
    layer = nn.Linear(1, 1, bias=False)
    first.backward((layer.weight * float("inf")).sum())  # an overflow halves the scale
    first.step(torch.optim.SGD(layer.parameters(), lr=1.0), layer, max_grad_norm=0.0)
    second.load_state_dict(first.state_dict())
    assert second.state_dict() == first.state_dict()
    assert Precision(CPU, None).state_dict() == {}


@pytest.mark.parametrize(
    ("keys", "line"),
    [
        ({}, "precision: float32 (TRAIN.AMP_ENABLED is off)"),
        (
            {"AMP_ENABLED": True, "AMP_OPT_LEVEL": "O0"},
            "precision: float32 (TRAIN.AMP_OPT_LEVEL O0 is float32, whatever AMP_ENABLED says)",
        ),
        (
            {"AMP_ENABLED": True},
            "precision: bfloat16 autocast, without loss scaling; weights, gradients, the optimiser and the"
            " loss in float32 (TRAIN.AMP_OPT_LEVEL O1)",
        ),
        (
            {"AMP_ENABLED": True, "AMP_DTYPE": "fp16", "AMP_OPT_LEVEL": "O2"},
            "precision: float16 autocast, with loss scaling; weights, gradients, the optimiser and the loss"
            " in float32 (TRAIN.AMP_OPT_LEVEL O2 means O1 today: PyTorch has no half-precision weights of"
            " Apex's kind)",
        ),
    ],
)
def test_a_line_of_the_log_says_what_the_keys_mean_today(keys, line):
    assert Precision.from_section(TrainSection.model_validate(keys), CPU).as_line() == line


OPTIMIZERS = {
    "fused": lambda layer: torch.optim.AdamW(layer.parameters(), lr=0.1, fused=True),
    "plain": lambda layer: torch.optim.AdamW(layer.parameters(), lr=0.1, fused=False),
    "8 bits": lambda layer: _adamw8bit(layer),
}


def _adamw8bit(layer):
    from bitsandbytes.optim import AdamW8bit

    return AdamW8bit(layer.parameters(), lr=0.1)


def everything(layer, optimizer):
    """Return copies of the weights and of the optimiser's tensors, its step counts included."""
    states = [optimizer.state[weights] for weights in layer.parameters()]
    tensors = [value for state in states for value in state.values() if isinstance(value, torch.Tensor)]
    counts = [value for state in states for value in state.values() if isinstance(value, int)]
    return [tensor.detach().clone() for tensor in (*layer.parameters(), *tensors)], counts


def equal(a, b):
    return a[1] == b[1] and len(a[0]) == len(b[0]) and all(map(torch.equal, a[0], b[0]))


@pytest.mark.parametrize("kind", OPTIMIZERS)
@pytest.mark.parametrize("dtype", [None, torch.float16])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_bad_step_leaves_weights_and_states_as_they_were_and_a_good_one_follows(kind, dtype, value):
    torch.manual_seed(0)
    layer = nn.Linear(96, 64)  # above the 4096 elements from which bitsandbytes uses 8 bits
    optimizer, precision = OPTIMIZERS[kind](layer), Precision(CPU, dtype)
    guard = NonFiniteGuard(layer, max_in_a_row=10, warn=lambda text: None)

    def take(factor, step):
        loss = layer(torch.ones(2, 96)).square().mean() * factor
        precision.backward(loss)
        precision.step(optimizer, layer, max_grad_norm=1.0, guard=guard, step=step)

    take(1.0, 1)
    before = everything(layer, optimizer)
    take(value, 2)
    assert equal(everything(layer, optimizer), before)
    assert layer.weight.grad is None
    take(1.0, 3)
    assert not equal(everything(layer, optimizer), before)
    assert (guard.skipped, guard.last_skipped_step) == (1, 2)


def test_a_guard_that_has_nothing_to_say_changes_nothing():
    with_guard, without = (nn.Linear(3, 2) for _ in range(2))
    without.load_state_dict(with_guard.state_dict())
    guard = NonFiniteGuard(with_guard, max_in_a_row=0, warn=pytest.fail)
    for layer, watching in ((with_guard, guard), (without, None)):
        precision, optimizer = Precision(CPU, None), torch.optim.AdamW(layer.parameters(), fused=True)
        for step in range(1, 4):
            precision.backward(layer(torch.full((2, 3), float(step))).square().sum())
            precision.step(optimizer, layer, max_grad_norm=0.5, guard=watching, step=step)
    assert all(map(torch.equal, with_guard.parameters(), without.parameters()))


def test_without_clipping_the_guard_still_looks():
    layer = nn.Linear(1, 1, bias=False)
    guard = NonFiniteGuard(layer, max_in_a_row=10, warn=lambda text: None)
    precision, optimizer = Precision(CPU, None), torch.optim.AdamW(layer.parameters(), lr=1.0)
    before = layer.weight.item()
    precision.backward((layer.weight * float("inf")).sum())
    precision.step(optimizer, layer, max_grad_norm=0.0, guard=guard, step=1)
    assert (guard.skipped, layer.weight.item()) == (1, before)


def test_an_optimiser_that_a_checkpoint_has_made_unfused_is_skipped_all_the_same():
    layer = nn.Linear(2, 2)
    fused = torch.optim.AdamW(layer.parameters(), lr=0.1, fused=True)
    unfused = torch.optim.AdamW(layer.parameters(), lr=0.1, fused=False)
    fused.load_state_dict(unfused.state_dict())
    guard = NonFiniteGuard(layer, max_in_a_row=10, warn=lambda text: None)
    before = layer.weight.detach().clone()
    precision = Precision(CPU, None)
    precision.backward(layer.weight.sum() * float("nan"))
    precision.step(fused, layer, max_grad_norm=1.0, guard=guard, step=1)
    assert torch.equal(layer.weight, before)
