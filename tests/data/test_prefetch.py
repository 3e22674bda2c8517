import threading

import pytest
import torch

from deblurkit.data import prefetch
from deblurkit.data.loaders import FORKING, LoadedBatch
from deblurkit.data.prefetch import LoadTimes, ahead, device_batches, on_device
from deblurkit.data.raw import Clip, RawClip, View
from deblurkit.errors import DataError


def clip(number):
    return Clip(*(torch.full((2, 1), number) for _ in range(3)))


def batches(count):
    return [LoadedBatch(clip(number), 0.5) for number in range(count)]


class Noted:
    """A stream beside the other that notes which thread works on it, and what is handed over."""

    def __init__(self):
        self.threads, self.handed, self.began = set(), [], []

    def begin(self):
        self.began.append(threading.current_thread().name)

    def run(self, work):
        self.threads.add(threading.current_thread().name)
        return work(), "event"

    def hand_over(self, made):
        self.handed.append(int(made[0].blurry[0, 0]))
        assert made[1] == "event"
        return made[0]


def test_batches_come_in_order_made_by_a_thread_of_their_own():
    side = Noted()
    made = [int(c.blurry[0, 0]) for c in ahead(batches(7), lambda batch: batch.clips, side)]
    assert made == side.handed == list(range(7))
    assert side.threads == {"MainThread", "deblurkit-prefetch"}  # the first by whoever asks
    assert side.began == ["deblurkit-prefetch"]


def test_no_batches_are_none():
    assert list(ahead(iter(()), lambda batch: batch.clips, Noted())) == []


def test_on_a_cpu_a_thread_can_make_them_too():
    stream = device_batches(batches(5), device=torch.device("cpu"), num_voxel_bins=1, in_background=True)
    assert [int(c.blurry[0, 0]) for c in stream] == list(range(5))


def test_what_goes_wrong_on_the_way_is_raised_after_what_went_well():
    def failing():
        yield from batches(2)
        raise DataError("a.png: missing")

    stream = ahead(failing(), lambda batch: batch.clips, Noted())
    assert [int(next(stream).blurry[0, 0]) for _ in range(2)] == [0, 1]
    with pytest.raises(DataError, match="a.png: missing"):
        next(stream)


def test_a_stream_that_is_left_ends_its_thread():
    def endless():
        while True:
            yield batches(1)[0]

    stream = ahead(endless(), lambda batch: batch.clips, Noted())
    next(stream)
    stream.close()
    assert "deblurkit-prefetch" not in {thread.name for thread in threading.enumerate()}


def test_the_thread_is_at_rest_while_others_fork():
    """It is in the middle of reading its second batch; then it has two ready that nobody has asked for."""
    reading, go_on = threading.Event(), threading.Event()

    def source():
        yield batches(1)[0]
        reading.set()
        assert go_on.wait(60)
        yield from batches(9)

    stream = ahead(source(), lambda batch: batch.clips, Noted())
    next(stream)
    assert reading.wait(60)
    assert not FORKING.acquire(blocking=False)
    go_on.set()
    assert FORKING.acquire(timeout=60)
    try:
        assert int(next(stream).blurry[0, 0]) == 0  # what is ready is there
    finally:
        FORKING.release()
    assert [int(c.blurry[0, 0]) for c in stream] == list(range(1, 9))


def test_the_thread_computes_on_the_gpu_of_its_rank(monkeypatch):
    """A new thread is on the first GPU, where memory that it pins would open a context."""
    chosen = []

    class Stream:
        def __init__(self, device):
            self.device = device

    monkeypatch.setattr(torch.cuda, "Stream", Stream)
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    prefetch._CudaSide(torch.device("cuda", 3)).begin()
    assert chosen == [torch.device("cuda", 3)]


def test_on_a_cpu_a_batch_is_made_when_it_is_asked_for():
    asked = []

    def watched():
        for batch in batches(3):
            asked.append(batch)
            yield batch

    times = LoadTimes()
    stream = device_batches(
        watched(), device=torch.device("cpu"), num_voxel_bins=1, in_background=False, times=times
    )
    assert next(stream).sharp.tolist() == [[0], [0]]
    assert len(asked) == 1 and (times.seconds, times.samples) == (0.5, 2)


def test_raw_batches_arrive_as_clips():
    frames = torch.zeros(1, 1, 2, 2, 3, dtype=torch.uint8)
    bits = torch.full((1, 1, 4, 1, 1), 0b10, dtype=torch.uint8)  # the second pixel of eight fires
    raw = RawClip(frames, bits, frames, torch.tensor([View(4, 2, 0)]))
    made = on_device(raw, torch.device("cpu"), 2)
    assert made.spikes.tolist() == [[[[[0.0, 1.0]], [[0.0, 1.0]]]]]
    assert made.blurry.shape == (1, 1, 3, 2, 2)


@pytest.mark.gpu
def test_batches_arrive_on_the_gpu():
    made = list(
        device_batches(batches(5), device=torch.device("cuda", 0), num_voxel_bins=1, in_background=True)
    )
    assert [int(c.blurry[0, 0]) for c in made] == list(range(5))
    assert all(tensor.is_cuda for c in made for tensor in c)
