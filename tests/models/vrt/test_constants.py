import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode

from deblurkit.models.vrt.constants import once_per_shape

CPU = torch.device("cpu")


def counted():
    """Return a function of a shape that is made once, and the list of what it was called with."""
    calls = []

    @once_per_shape
    def ramp(length, *, dtype=torch.float32):
        """Return 0, 1, 2 ..."""
        calls.append((length, dtype))
        return torch.arange(length, dtype=dtype)

    return ramp, calls


def test_each_result_is_made_once_and_shared():
    ramp, calls = counted()
    first = ramp(3, dtype=torch.float64)
    assert first.tolist() == [0, 1, 2] and first.dtype == torch.float64
    assert ramp(3, dtype=torch.float64) is first
    assert calls == [(3, torch.float64)]


def test_other_arguments_give_other_results():
    ramp, calls = counted()
    assert [len(ramp(3)), len(ramp(4)), ramp(3, dtype=torch.int64).dtype] == [3, 4, torch.int64]
    assert calls == [(3, torch.float32), (4, torch.float32), (3, torch.int64)]
    assert ramp(3).tolist() == [0, 1, 2] and len(calls) == 3


def test_two_functions_do_not_share_results():
    (one, _), (other, calls) = counted(), counted()
    one(3)
    other(3)
    assert len(calls) == 1


def test_a_function_keeps_its_name_and_its_help():
    ramp, _ = counted()
    assert (ramp.__name__, ramp.__doc__) == ("ramp", "Return 0, 1, 2 ...")


def test_a_compiled_function_takes_the_result_as_it_is():
    """The function as it is; the layouts of windows are made with calls that a graph cannot hold."""
    calls = []

    @once_per_shape
    def slope(length):
        calls.append(length)
        return float(torch.arange(length).sum())  # a graph would break here

    @once_per_shape
    def ramp(length):
        return torch.arange(slope(length), dtype=torch.float32)[:length]

    def function(x):
        return x * ramp(len(x)) + slope(len(x))

    out = torch.compile(function, fullgraph=True, backend="eager")(torch.ones(4))
    assert out.tolist() == [6, 7, 8, 9]
    assert calls == [4]


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_what_an_evaluation_has_made_serves_training(mode):
    """Closed form: the gradient of the sum of w * ramp is the ramp."""
    ramp, calls = counted()
    with mode():
        ramp(3)
    weight = torch.ones(3, requires_grad=True)
    (weight * ramp(3)).sum().backward()
    assert weight.grad.tolist() == [0, 1, 2] and len(calls) == 1


def test_what_a_run_without_memory_has_made_is_real():
    """Nothing of FakeTensorMode stays behind: the next run computes with numbers."""
    ramp, calls = counted()
    with FakeTensorMode(allow_non_fake_inputs=True):
        first = ramp(3)
        assert isinstance(torch.ones(3), FakeTensor)
    assert not isinstance(first, FakeTensor) and ramp(3).tolist() == [0, 1, 2] and len(calls) == 1
