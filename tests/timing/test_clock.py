import pytest
import torch

from deblurkit.timing.clock import CudaClock, HostClock, clock_for


def test_host_marks_are_nanoseconds():
    assert HostClock().elapsed(1_000_000_000, 3_500_000_000) == pytest.approx(2.5)


def test_a_cpu_is_timed_by_the_host_and_a_gpu_by_its_events():
    assert clock_for("cpu").name == "host"
    assert clock_for("cuda", torch.device("cuda", 0)).name == "cuda"


class FakeEvent:
    def __init__(self, milliseconds, *, reached):
        self.milliseconds, self.reached = milliseconds, reached

    def query(self):
        return self.reached

    def elapsed_time(self, other):
        return other.milliseconds - self.milliseconds


def test_device_time_is_unknown_until_the_device_gets_there():
    clock = CudaClock(torch.device("cuda", 0))
    start, end = FakeEvent(2.0, reached=True), FakeEvent(14.5, reached=False)
    assert clock.elapsed(start, end) is None
    end.reached, start.reached = True, False  # recorded on another stream
    assert clock.elapsed(start, end) is None
    start.reached = True
    assert clock.elapsed(start, end) == pytest.approx(0.0125)


@pytest.mark.gpu
def test_events_agree_with_a_synchronised_host_clock():
    import time

    clock = CudaClock(torch.device("cuda", 0))
    a = torch.randn(4096, 4096, device="cuda")
    for _ in range(3):
        a @ a
    torch.cuda.synchronize()
    began, start = time.perf_counter(), clock.mark()
    for _ in range(50):
        a @ a
    end = clock.mark()
    clock.wait()
    assert clock.elapsed(start, end) == pytest.approx(time.perf_counter() - began, rel=0.03)


def test_events_are_used_again_once_they_are_released(monkeypatch):
    made = []

    class Event:
        def __init__(self, enable_timing):
            made.append(self)

        def record(self, stream):
            self.stream = stream

    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: "stream")
    clock = CudaClock(torch.device("cuda", 0))
    first, second = clock.mark(), clock.mark()
    clock.release([first])
    assert clock.mark() is first and clock.mark() not in (first, second)
    assert len(made) == 3
