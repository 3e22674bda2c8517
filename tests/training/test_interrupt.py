import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import deblurkit
from deblurkit.errors import DeblurkitError
from deblurkit.training import interrupt
from deblurkit.training.interrupt import LAUNCHER, InterruptedRun, StopRequest, stop_with_launcher

STOPPING = [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP]


@pytest.mark.parametrize("number", STOPPING)
def test_the_first_signal_is_noted_and_the_handlers_come_back(number):
    before = signal.getsignal(number)
    with StopRequest() as stop:
        os.kill(os.getpid(), number)
        assert stop.signal_number == number
    assert signal.getsignal(number) is before


@pytest.mark.parametrize("first", STOPPING)
def test_ctrl_c_after_a_signal_interrupts_at_once(first):
    with pytest.raises(KeyboardInterrupt), StopRequest():
        os.kill(os.getpid(), first)
        os.kill(os.getpid(), signal.SIGINT)
        pytest.fail("not interrupted")


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP])
@pytest.mark.parametrize("first", STOPPING)
def test_a_further_signal_of_a_batch_system_does_not_cut_the_saving_short(first, second):
    with StopRequest() as stop:
        os.kill(os.getpid(), first)
        os.kill(os.getpid(), second)
        assert stop.signal_number == first


@pytest.mark.parametrize("number", STOPPING)
def test_a_process_that_was_forked_just_now_does_not_heed_it(number):
    """As a loader worker that has not yet handlers of its own."""
    with StopRequest(told=lambda: os._exit(2)) as stop:
        child = os.fork()
        if child == 0:
            os.kill(os.getpid(), number)
            os.kill(os.getpid(), number)
            time.sleep(0.05)
            os._exit(stop.signal_number)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_another_process_s_signal_can_be_taken_over_once():
    told = []
    with StopRequest(told=lambda: told.append("stopping")) as stop:
        stop.request(signal.SIGUSR1)
        stop.request(signal.SIGTERM)
        assert stop.signal_number == signal.SIGUSR1
    assert told == ["stopping"]


def test_in_another_thread_it_leaves_the_signals_alone():
    before = signal.getsignal(signal.SIGINT)

    def work():
        with StopRequest():
            assert signal.getsignal(signal.SIGINT) is before

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()


def test_the_exit_code_is_the_shell_s():
    assert InterruptedRun("", signal.SIGTERM).exit_code == 143
    assert InterruptedRun("", signal.SIGUSR1).exit_code == 138
    assert InterruptedRun("", signal.SIGHUP).exit_code == 129


def test_the_first_signal_is_told_once_even_where_it_interrupts_who_speaks():
    """The lock stands for that of a stream that the signal came into the middle of writing to."""
    told, lock = [], threading.Lock()

    def tell():
        with lock:
            told.append("stopping")

    with StopRequest(told=tell), lock:
        os.kill(os.getpid(), signal.SIGINT)
        assert told == []
    assert told == ["stopping"]


def test_a_closed_stream_is_no_reason_to_fail(capfd):
    def tell():
        raise ValueError("I/O operation on closed file")

    with StopRequest(told=tell) as stop:
        os.kill(os.getpid(), signal.SIGTERM)
    assert stop.signal_number == signal.SIGTERM
    assert capfd.readouterr() == ("", "")


def test_a_hangup_that_nohup_ignores_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with StopRequest() as stop:
            os.kill(os.getpid(), signal.SIGHUP)
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
        assert stop.signal_number == 0
    finally:
        signal.signal(signal.SIGHUP, before)


LAUNCH = """
import os, subprocess, sys
rank = subprocess.Popen([sys.executable, "-c", sys.argv[1]], env=os.environ | {sys.argv[2]: str(os.getpid())})
print(rank.pid, flush=True)
rank.wait()
"""
RANK = """
import sys, time
from deblurkit.training.interrupt import StopRequest, stop_with_launcher
with StopRequest() as stop:
    stop_with_launcher()
    print("there", flush=True)
    while not stop.signal_number:
        time.sleep(0.01)
print(f"asked to stop by {stop.signal_number}", flush=True)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="a matter of Linux's kernel")
def test_a_rank_whose_launcher_is_killed_is_asked_to_stop():
    launcher = subprocess.Popen(
        [sys.executable, "-c", LAUNCH, RANK, LAUNCHER],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(Path(deblurkit.__file__).parents[1])},
    )
    rank = int(launcher.stdout.readline())
    try:
        assert launcher.stdout.readline() == "there\n"
        launcher.kill()
        assert launcher.stdout.readline() == "asked to stop by 15\n"
    finally:
        launcher.kill()
        launcher.communicate()
        if Path(f"/proc/{rank}").exists():
            os.kill(rank, signal.SIGKILL)


@pytest.mark.skipif(sys.platform != "linux", reason="a matter of Linux's kernel")
def test_a_launcher_that_is_gone_already_is_said(monkeypatch):
    """The kernel is not asked here: it would signal the process of the tests."""
    asked = []

    class Library:
        def __init__(self, name):
            pass

        def prctl(self, *arguments):
            asked.append(arguments)

    monkeypatch.setattr(interrupt.ctypes, "CDLL", Library)
    monkeypatch.delenv(LAUNCHER, raising=False)
    stop_with_launcher()
    assert asked == []
    monkeypatch.setenv(LAUNCHER, str(os.getppid()))
    stop_with_launcher()
    assert [arguments[:2] for arguments in asked] == [(1, signal.SIGTERM)]  # PR_SET_PDEATHSIG
    monkeypatch.setenv(LAUNCHER, str(os.getpid()))
    with pytest.raises(DeblurkitError, match=f"process {os.getpid()}, which has started this one, has ended"):
        stop_with_launcher()
