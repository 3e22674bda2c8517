import multiprocessing
import os
from types import SimpleNamespace

import psutil
import pytest
import torch

from deblurkit.memory.gpu import Gpu
from deblurkit.training import vitals
from deblurkit.training.vitals import Vitals

CPU = torch.device("cpu")


class Nvml:
    """NVML's functions as pynvml offers them, of a busy GPU."""

    class NVMLError(Exception):
        pass

    def nvmlDeviceGetUtilizationRates(self, handle):
        return SimpleNamespace(gpu=87)

    def nvmlDeviceGetMemoryInfo(self, handle):
        return SimpleNamespace(used=30 * 2**30)


def test_a_look_agrees_with_what_the_system_says(tmp_path):
    clock = iter([100.0, 107.5]).__next__
    sign = Vitals(tmp_path, device=CPU, clock=clock).look()
    assert sign.seconds == 7.5
    with open("/proc/self/statm") as file:  # pages: total, resident
        resident = int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    assert sign.rss_bytes == pytest.approx(resident, rel=0.05)
    stat = os.statvfs(tmp_path)
    assert sign.disk_free_bytes == pytest.approx(stat.f_bavail * stat.f_frsize, rel=0.05)
    assert 0 < sign.host_used_percent <= 100
    assert (sign.gpu_busy_percent, sign.gpu_used_bytes) == (None, None)


def _hold(size, ready, done):
    held = bytearray(os.urandom(1) * size)
    ready.set()
    done.wait()
    del held


def test_what_workers_hold_counts_as_long_as_they_live(tmp_path):
    looking = Vitals(tmp_path, device=CPU)
    before = looking.look().rss_bytes
    context = multiprocessing.get_context("spawn")
    ready, done = context.Event(), context.Event()
    worker = context.Process(target=_hold, args=(100 * 2**20, ready, done))
    worker.start()
    assert ready.wait(60)
    during = looking.look().rss_bytes
    done.set()
    worker.join()
    assert during - before > 100 * 2**20
    assert looking.look().rss_bytes < during - 100 * 2**20


def times(**seconds):
    """As psutil.cpu_times() on Linux, all of them since the machine has started."""
    fields = {"user": 0.0, "system": 0.0, "idle": 0.0, "iowait": 0.0, "guest": 0.0}
    return SimpleNamespace(_asdict=lambda: {**fields, **seconds})


def test_shares_are_of_the_time_since_the_last_look(tmp_path, monkeypatch):
    readings = iter(
        [
            times(user=1000.0, idle=5000.0, iowait=100.0),
            times(
                user=1060.0, system=20.0, idle=5010.0, iowait=110.0, guest=60.0
            ),  # 100 s: 80 busy, 10 waiting
            times(user=1060.0, system=20.0, idle=5060.0, iowait=110.0, guest=60.0),  # 50 s of rest
            times(user=1060.0, system=20.0, idle=5060.0, iowait=110.0, guest=60.0),  # at once again
        ]
    )
    monkeypatch.setattr(psutil, "cpu_times", lambda: next(readings))
    looking = Vitals(tmp_path, device=CPU)
    shares = [(sign.cpu_percent, sign.io_wait_percent) for sign in (looking.look() for _ in range(3))]
    assert shares == [(80.0, 10.0), (0.0, 0.0), (None, None)]


def test_a_system_that_does_not_count_waiting_says_none(tmp_path, monkeypatch):
    readings = iter([{"user": 0.0, "idle": 0.0}, {"user": 30.0, "idle": 10.0}])
    monkeypatch.setattr(psutil, "cpu_times", lambda: SimpleNamespace(_asdict=lambda: next(readings)))
    sign = Vitals(tmp_path, device=CPU).look()
    assert (sign.cpu_percent, sign.io_wait_percent) == (75.0, None)


def test_bytes_written_are_those_since_the_first_look(tmp_path, monkeypatch):
    written = iter([5000, 5300, 9000])
    monkeypatch.setattr(vitals, "_written_bytes", lambda process: next(written))
    looking = Vitals(tmp_path, device=CPU)
    assert [looking.look().written_bytes for _ in range(2)] == [300, 4000]


def test_the_gpu_is_asked_at_every_look(tmp_path):
    sign = Vitals(tmp_path, device=torch.device("cuda"), gpu=Gpu(Nvml(), None)).look()
    assert (sign.gpu_busy_percent, sign.gpu_used_bytes) == (87.0, 30 * 2**30)
