import io
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tensorboard.compat.tensorflow_stub import pywrap_tensorflow
from tensorboard.summary.writer.record_writer import RecordWriter

from deblurkit.analysis.formats import tfrecord
from deblurkit.analysis.formats.tfrecord import framed, masked_crc, read_records


def records(data, chunks=None):
    return list(read_records(Trickle(data, chunks) if chunks else io.BytesIO(data)))


class Trickle(io.BytesIO):
    """Gives fewer bytes than asked for, as pipes and gzip files do."""

    def __init__(self, data, most):
        super().__init__(data)
        self._most = most

    def read(self, count=-1):
        return super().read(min(count, self._most))


def test_the_checksum_is_castagnoli_s_masked():
    crc = 0xE3069283  # of "123456789", the check value in the catalogue of CRC parametrisations
    rotated = (crc >> 15 | crc << 17) & 0xFFFFFFFF
    assert masked_crc(b"123456789") == (rotated + 0xA282EAD8) & 0xFFFFFFFF
    for data in (b"", b"\0" * 32, bytes(range(256))):
        assert masked_crc(data) == pywrap_tensorflow.masked_crc32c(data)


@given(st.lists(st.binary(max_size=300), max_size=6))
def test_records_are_those_of_tensorboard_s_writer(payloads):
    file = io.BytesIO()
    for payload in payloads:
        RecordWriter(file).write(payload)
    assert b"".join(map(framed, payloads)) == file.getvalue()
    assert records(file.getvalue()) == payloads
    assert records(file.getvalue(), chunks=5) == payloads


ONE, TWO, THREE = framed(b"first"), framed(b"second record"), framed(b"third")


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (ONE + TWO[:-1], [b"first", None]),  # cut off
        (ONE + TWO[:5], [b"first", None]),
        (ONE + TWO[:14] + b"?" + TWO[15:] + THREE, [b"first", None, b"third"]),  # a byte of the payload
        (ONE + b"?" + TWO[1:] + THREE, [b"first", None, b"third"]),  # a byte of the length
        (ONE + TWO[7:] + THREE, [b"first", None, b"third"]),  # bytes lost
        (ONE[:-9] + TWO[4:] + THREE, [None, b"third"]),
        (ONE + b"\0" * 70_000 + THREE, [b"first", None, b"third"]),
        (b"no record at all", [None]),
        (b"\0", [None]),
        (b"", []),
    ],
)
def test_damage_is_one_none_and_the_next_whole_record_is_found(data, expected):
    assert records(data) == expected
    assert records(data, chunks=3) == expected


def test_a_record_too_large_is_passed_over_unread(monkeypatch):
    monkeypatch.setattr(tfrecord, "LARGEST", 100)
    assert records(framed(b"x" * 101) + ONE) == [b"", b"first"]
    assert records(framed(b"x" * 101)[:50]) == [None]


def test_a_length_that_is_a_lie_does_not_hide_what_follows():
    length = struct.pack("<Q", 1 << 20)
    head = length + struct.pack("<I", pywrap_tensorflow.masked_crc32c(length))
    assert records(head + ONE + TWO) == [None, b"first", b"second record"]


@settings(max_examples=200)
@given(st.randoms(use_true_random=False), st.integers(1, 5))
def test_the_records_that_were_not_changed_are_found_in_their_order(rng, changes):
    payloads = [rng.randbytes(rng.randrange(1, 40)) for _ in range(12)]
    pieces = [bytearray(framed(payload)) for payload in payloads]
    for _ in range(changes):
        piece = rng.choice(pieces)
        piece[rng.randrange(len(piece))] ^= rng.randrange(1, 256)
    whole = [payload for payload, piece in zip(payloads, pieces, strict=True) if piece == framed(payload)]
    assert [record for record in records(b"".join(pieces)) if record is not None] == whole
