import pytest
import torch

from deblurkit.models.vrt.half import where_it_pays
from deblurkit.models.vrt.target import as_if_on, device_kind, needed, shapes_only

CPU = torch.device("cpu")


def test_a_device_is_what_it_is_unless_another_is_put_in_its_place():
    with pytest.raises(KeyError), as_if_on("cuda"):
        assert device_kind(CPU) == "cuda"
        raise KeyError
    assert device_kind(CPU) == "cpu"


def test_16_bits_pay_as_on_the_device_that_is_asked_for(monkeypatch):
    monkeypatch.setattr("deblurkit.models.vrt.half.cpu_multiplies_bf16", lambda: False)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        with where_it_pays(CPU):
            assert not torch.is_autocast_enabled("cpu")
        with as_if_on("cuda"), where_it_pays(CPU):
            assert torch.is_autocast_enabled("cpu")


def test_shapes_alone_need_two_pieces():
    with shapes_only():
        assert list(needed(range(5))) == [0, 1] and list(needed([7])) == [7]
    assert list(needed(range(5))) == [0, 1, 2, 3, 4]
