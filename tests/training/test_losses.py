import math

import pytest
import torch

from deblurkit.training.losses import charbonnier


def test_charbonnier_is_the_mean_of_the_root():
    a, b = torch.tensor([0.0, 0.3]), torch.tensor([0.0, 0.7])
    expected = (0.001 + math.sqrt(0.4**2 + 0.001**2)) / 2
    assert charbonnier(a, b, delta=0.001).item() == pytest.approx(expected, rel=1e-6)


def test_half_precision_inputs_do_not_lose_delta():
    zero = torch.zeros(4, dtype=torch.float16)
    assert charbonnier(zero, zero, delta=1e-6).item() == pytest.approx(1e-6)  # 1e-12 is 0 in float16
