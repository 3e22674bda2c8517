"""Operations and bytes against numbers that follow from the shapes alone."""

import pytest
import torch
from torch import nn

from deblurkit.training.profiling.counters import BYTES, CALLS, FLOPS, WorkClock


def test_a_linear_layer_is_two_operations_for_each_weight_and_row():
    layer = nn.Linear(32, 8, bias=False)
    x = torch.rand(5, 32, requires_grad=True)
    with WorkClock() as clock:
        start = clock.mark()
        y = layer(x)
        forward = clock.mark()
        y.sum().backward()
        end = clock.mark()
    product = 2 * 5 * 32 * 8
    assert clock.elapsed(start, forward) == product
    assert end[FLOPS] - forward[FLOPS] == 2 * product  # gradients of the input and of the weights


def test_a_convolution_is_counted_by_its_taps():
    layer = nn.Conv2d(3, 6, 3, padding=1)
    with WorkClock() as clock, torch.no_grad():
        start = clock.mark()
        layer(torch.rand(2, 3, 10, 10))
        assert clock.elapsed(start, clock.mark()) == 2 * (2 * 10 * 10) * 6 * 3 * 9


@pytest.mark.parametrize(
    ("layer", "forward"),
    [
        (nn.Conv2d(4, 8, 3, padding=1), 2 * 36 * 8 * 4 * 9),
        (nn.Conv2d(4, 4, 3, padding=1, groups=4), 2 * 36 * 4 * 9),
        (nn.ConvTranspose2d(4, 2, 2, stride=2), 2 * 36 * 4 * 2 * 4),
    ],
)
def test_the_gradients_of_a_convolution_cost_what_it_costs_each(layer, forward):
    x = torch.rand(1, 4, 6, 6, requires_grad=True)
    with WorkClock() as clock:
        start = clock.mark()
        y = layer(x)
        between = clock.mark()
        y.sum().backward()
        end = clock.mark()
    assert clock.elapsed(start, between) == forward and clock.elapsed(between, end) == 2 * forward
    with WorkClock() as clock:
        layer(x.detach()).sum().backward()  # no gradient of the input
        assert clock.mark()[FLOPS] == 2 * forward


def test_an_addition_reads_two_tensors_and_writes_one_and_a_view_moves_none():
    a, b = torch.ones(1000), torch.ones(1000)
    with WorkClock() as clock:
        start = clock.mark()
        (a + b).view(10, 100).t()
        torch.empty(500)
        end = clock.mark()
        assert end[BYTES] - start[BYTES] == 3 * 4000
        assert end[CALLS] - start[CALLS] == 1
        torch.ones(1).expand(1000).clone()
    assert clock.mark()[BYTES] - start[BYTES] == 3 * 4000 + 4 + (4 + 4000)
