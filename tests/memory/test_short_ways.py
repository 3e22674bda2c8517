"""Results of the short ways against those of FakeTensorMode itself."""

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from deblurkit.memory.short_ways import IN_PLACE, MADE_OF_OTHERS, VIEWS, run_on_shapes

aten = torch.ops.aten

CASES = {
    aten.add_.Tensor: [(2.0,), ("other",)],
    aten.addmm_.default: [("rows", "columns")],
    aten.copy_.default: [("other",)],
    aten.exp_.default: [()],
    aten.mul_.Tensor: [("other",)],
    aten.zero_.default: [()],
    aten.detach.default: [()],
    aten.expand.default: [([2, 6, 8],)],
    aten.permute.default: [([1, 0],)],
    aten.select.int: [(0, 3), (1, -1)],
    aten.slice.Tensor: [(0, 1, 5, 2), (1, -3)],
    aten.t.default: [()],
    aten.transpose.int: [(0, 1)],
    aten.unsqueeze.default: [(1,), (-1,)],
    aten.view.default: [([3, 16],), ([-1],)],
    aten.flatten.using_ints: [(), (0, 1)],
    aten.to.dtype: [(torch.bfloat16,), (torch.float32,)],
    aten.unflatten.int: [(1, [2, 4])],
    aten.grid_sampler_2d.default: [("grid", 0, 0, False)],
    aten.mm.default: [("columns",)],
    aten.sum.dim_IntList: [([0],)],
}


def test_every_short_way_has_a_case():
    assert CASES.keys() >= IN_PLACE | VIEWS | MADE_OF_OTHERS


@pytest.fixture
def mode():
    with FakeTensorMode() as made:
        yield made


def arguments(func, rest):
    """A part of a larger tensor of 6 x 8, so that offset and strides count too; or an image."""
    whole = torch.empty(9, 8)[2:8] if func is not aten.grid_sampler_2d.default else torch.empty(2, 3, 6, 8)
    named = {
        "other": torch.empty(6, 8),
        "rows": torch.empty(6, 8),
        "columns": torch.empty(8, 8),
        "grid": torch.empty(2, 4, 5, 2),
    }
    return whole, [named[value] if isinstance(value, str) else value for value in rest]


def seen(tensor, whole):
    storage = tensor.untyped_storage()
    return {
        "layout": (tensor.shape, tensor.stride(), tensor.storage_offset(), tensor.dtype, tensor.device),
        "bytes": storage.nbytes(),
        "shares": storage._cdata == whole.untyped_storage()._cdata,
    }


@pytest.mark.parametrize("func, rest", [(func, rest) for func, each in CASES.items() for rest in each])
def test_a_short_way_comes_to_the_same_tensor_and_storage(mode, func, rest):
    whole, rest = arguments(func, rest)
    with torch.no_grad():
        found, expected = run_on_shapes(func, (whole, *rest), {}), func(whole, *rest)
    assert type(found) is type(expected)
    assert found.fake_mode is expected.fake_mode is mode
    assert seen(found, whole) == seen(expected, whole)


def test_a_number_that_is_known_stays_known(mode):
    known = torch.tensor(3.0)
    assert run_on_shapes(aten.detach.default, (known,), {}).item() == 3.0


def test_what_makes_a_tensor_of_nothing_is_left_to_the_mode(mode):
    assert run_on_shapes(aten.zeros.default, ([4],), {}).shape == (4,)
