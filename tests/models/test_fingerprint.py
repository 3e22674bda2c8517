import hashlib

import torch
from torch import nn

from deblurkit.models.fingerprint import fingerprint


def network(value=1.0):
    model = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    for parameter in model.parameters():
        nn.init.constant_(parameter, value)
    return model


def test_equal_weights_have_one_number_and_others_another():
    assert fingerprint(network()) == fingerprint(network())
    assert fingerprint(network()) != fingerprint(network(0.5))
    changed = network()
    changed[1].running_mean[2] = 1e-7  # a buffer counts as a weight does
    assert fingerprint(changed) != fingerprint(network())


def test_it_is_the_digest_of_the_bytes_in_order():
    model = nn.Linear(2, 1, bias=False)
    model.weight.data = torch.tensor([[1.0, -2.0]])
    expected = hashlib.sha256(bytes.fromhex("0000803f000000c0")).hexdigest()[:16]  # IEEE 754, little-endian
    assert fingerprint(model) == expected


def test_numbers_without_dimensions_and_in_16_bits_are_taken_too():
    model = nn.Module()
    model.register_buffer("scale", torch.tensor(2.0, dtype=torch.bfloat16))
    model.register_buffer("count", torch.tensor(3))
    assert len(fingerprint(model)) == 16
