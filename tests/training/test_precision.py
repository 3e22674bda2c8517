import pytest
import torch
from torch import nn

from deblurkit.config.sections import TrainSection
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
