"""Live and peak bytes of real and fake tensors against numbers that follow from the shapes alone."""

import contextlib

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from deblurkit.memory.tensors import (
    ACTIVATIONS,
    CONSTANTS,
    GRADIENTS,
    INPUTS,
    PARAMETERS,
    TEMPORARIES,
    MemoryClock,
    StorageTracker,
    rounded,
)
from deblurkit.models.vrt.kernels import biased_attention

MIB = 2**20


@pytest.fixture(params=["real", "fake"])
def mode(request):
    """Where tensors are made: in memory or nowhere."""
    with FakeTensorMode() if request.param == "fake" else contextlib.nullcontext():
        yield


def test_requests_are_rounded_up_as_the_allocator_does():
    assert [rounded(count) for count in (0, 1, 512, 513)] == [0, 512, 512, 1024]


def test_live_tensors_are_those_that_were_kept_and_those_that_are_alive(mode):
    kept = torch.zeros(MIB // 4)
    with StorageTracker([kept, kept.view(-1)]) as live:
        made = kept + 1
        assert live.held == 2 * MIB
        del made
        kept.add_(1)
        kept.t()
        assert live.held == MIB
    assert live.take_peak().peak_bytes == 2 * MIB and live.take_peak().peak_bytes == MIB


def test_what_an_operator_is_given_counts_from_then_on(mode):
    unknown = torch.zeros(MIB // 4)
    with StorageTracker() as live:
        unknown.sum()
        assert live.by_owner == {CONSTANTS: MIB}


def test_each_mark_gives_the_peak_since_the_mark_before(mode):
    with MemoryClock(torch.device("cpu")) as clock:
        clock.mark()
        held = torch.zeros(MIB // 4)
        (held + held).sum()
        first = clock.mark()
        second = clock.mark()
    assert 2 * MIB <= first.peak_bytes <= 2 * MIB + 512 and MIB <= second.peak_bytes <= MIB + 512


def test_a_phase_has_the_peak_of_its_own_and_the_largest_of_several(mode):
    with StorageTracker() as live:
        for size in (2, 3, 1):
            with live.phase("work"):
                torch.empty(size * MIB // 4)
        with live.phase("rest"):
            torch.empty(16)
    assert live.peaks["work"].peak_bytes == 3 * MIB and live.peaks["rest"].peak_bytes == 512


def test_owners_at_the_peak_are_those_of_that_moment(mode):
    with StorageTracker() as live:
        with live.owner("first"):
            first = torch.empty(MIB // 4)
        with live.owner("second"):
            torch.empty(2 * MIB // 4)
        live.assign("renamed", [first])
        assert live.by_owner == {"renamed": MIB}
        peak = live.take_peak()
    assert peak.by_owner == {"first": MIB, "second": 2 * MIB}


def chain(rows, width, depth):
    return nn.Sequential(*[nn.Linear(width, width, bias=False) for _ in range(depth)]), torch.rand(
        rows, width
    )


def test_a_chain_of_linear_layers_is_what_can_be_written_down(mode):
    """n layers (w, w) without bias on (r, w): x and the n outputs are kept, and in the end n gradients.

    With more weights than activations the last backward step peaks, of the first layer: all weights, all
    gradients, and of the activations x, y and its gradient, which are held here, and the gradient of the
    first output. That output itself has gone with the step of the second layer.
    """
    rows, width, depth = 128, 512, 3
    weight, activation = 4 * width * width, 4 * rows * width
    network, x = chain(rows, width, depth)
    with StorageTracker() as live, live.following(network, {}):
        y = network(x)
        kept = {PARAMETERS: depth * weight, INPUTS: activation, ACTIVATIONS: depth * activation}
        assert live.by_owner == kept
        assert live.take_peak().peak_bytes == sum(kept.values())
        y.backward(torch.ones_like(y))
        assert live.take_peak().peak_bytes == 2 * depth * weight + 4 * activation
        del y
        assert live.by_owner == {PARAMETERS: depth * weight, INPUTS: activation, GRADIENTS: depth * weight}


def test_modules_own_what_they_make(mode):
    network, x = chain(128, 128, 2)
    with StorageTracker() as live, live.following(network, {network[0]: "first", network[1]: "second"}):
        y = network(x)
        assert live.by_owner["first"] == live.by_owner["second"] == 4 * 128 * 128
        y.sum().backward()
        grads = live.take_peak().by_owner
    assert grads[TEMPORARIES] > 0 and not any(module._forward_hooks for module in network.modules())


def test_a_custom_operator_is_seen_from_inside(mode):
    """The kernel gets the bias of every kind of window as one (H, L, L) that is gone when it returns."""
    windows, tokens, heads, width = 2, 64, 2, 16
    qkv, bias = torch.rand(windows, tokens, 3 * width), torch.rand(heads, tokens, tokens)
    masks = torch.zeros(1, tokens, tokens)
    with StorageTracker([qkv, bias, masks]) as live:
        before = live.held
        out = biased_attention(qkv, bias, masks, [0, windows], heads)
        kept = live.held - before
        assert kept == 4 * windows * tokens * (width + heads)
        assert live.take_peak().peak_bytes - before >= kept + 4 * heads * tokens * tokens
    assert out[0].shape == (windows, tokens, width)
