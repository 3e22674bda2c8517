"""Real signals, sent by this process to itself at every place where they may come."""

import os
import signal
import subprocess
import sys
import threading

import pytest

from deblurkit.tuning.recommend.stopping import Stopping

BOTH = [signal.SIGINT, signal.SIGTERM]


def send(number):
    os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", BOTH)
def test_work_is_broken_off_and_what_comes_later_is_not_begun(number):
    done = []

    def work():
        done.append("begun")
        send(number)
        done.append("ended")

    with Stopping() as stopping:
        assert stopping.attempt(work, otherwise="broken off") == "broken off"
        assert stopping.attempt(lambda: done.append("later"), otherwise="not begun") == "not begun"
    assert done == ["begun"]
    assert stopping.is_asked and stopping.signal_number == number


@pytest.mark.parametrize("number", BOTH)
def test_what_is_no_attempt_comes_to_its_end(number):
    with Stopping() as stopping:
        assert stopping.attempt(lambda: 7, otherwise=0) == 7
        send(number)
        ended = True
        assert stopping.attempt(lambda: 7, otherwise=0) == 0
    assert ended and stopping.signal_number == number


class Clock:
    """Seconds that pass as they are told to."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def test_a_second_ctrl_c_interrupts_whatever_goes_on():
    clock = Clock()
    with pytest.raises(KeyboardInterrupt), Stopping(clock=clock):
        send(signal.SIGTERM)
        clock.now = 1.0
        send(signal.SIGINT)


def test_two_at_once_are_one_wish():
    """GNU timeout sends a signal to its child and then to the group, which the child is in."""
    with Stopping(clock=Clock()) as stopping:
        assert stopping.attempt(lambda: send(signal.SIGINT), otherwise="broken off") == "broken off"
        send(signal.SIGINT)
    assert stopping.signal_number == signal.SIGINT


def test_a_second_ctrl_c_while_the_first_is_put_away_is_not_lost():
    clock, put_away = Clock(), []

    def work():
        try:
            send(signal.SIGINT)
        finally:
            clock.now = 1.0
            send(signal.SIGINT)
            put_away.append("whole")

    with pytest.raises(KeyboardInterrupt), Stopping(clock=clock) as stopping:
        stopping.attempt(work, otherwise="goes on")
    assert put_away == []


def test_what_is_held_is_broken_off_at_its_end_alone():
    done = []

    def work():
        with stopping.held():
            send(signal.SIGTERM)
            done.append("the held part")
        done.append("what comes after it")

    with Stopping() as stopping:
        assert stopping.attempt(work, otherwise="broken off") == "broken off"
        with stopping.held():  # in no attempt
            done.append("held again")
    assert done == ["the held part", "held again"]


HELD = """
import os, signal
from deblurkit.tuning.recommend.stopping import Stopping
ticks = iter([0.0, 1.0])
with Stopping(clock=lambda: next(ticks)) as stopping:
    with stopping.held():
        os.kill(os.getpid(), signal.SIGINT)
        print("first", flush=True)
        os.kill(os.getpid(), signal.SIGINT)
        print("second", flush=True)
"""


def test_a_second_ctrl_c_in_what_is_held_ends_the_process():
    ended = subprocess.run([sys.executable, "-c", HELD], capture_output=True, text=True)
    assert (ended.returncode, ended.stdout, ended.stderr) == (130, "first\n", "")


def test_a_forked_child_takes_no_wish_of_its_parent():
    with Stopping() as stopping:
        child = os.fork()
        if child == 0:
            send(signal.SIGTERM)
            os._exit(7 if not stopping.is_asked else 1)
        _, status = os.waitpid(child, 0)
        assert os.waitstatus_to_exitcode(status) == 7 and not stopping.is_asked


@pytest.mark.parametrize("number", BOTH)
def test_what_is_ignored_stays_so(number):
    signal.signal(number, signal.SIG_IGN)
    with Stopping() as stopping:
        assert stopping.attempt(lambda: send(number), otherwise="broken off") is None
    assert not stopping.is_asked


def test_the_first_signal_is_told_once():
    told = []
    with Stopping(told=lambda: told.append("told")):
        send(signal.SIGTERM)
        send(signal.SIGTERM)
    assert told == ["told"]


def test_a_second_sigterm_changes_nothing():
    with Stopping() as stopping:
        send(signal.SIGINT)
        send(signal.SIGTERM)
    assert stopping.signal_number == signal.SIGINT


def test_the_signals_are_given_back_and_errors_pass():
    before = [signal.getsignal(number) for number in BOTH]
    with pytest.raises(ValueError, match="as it is"), Stopping() as stopping:
        stopping.attempt(lambda: int("as it is"), otherwise=0)
    assert [signal.getsignal(number) for number in BOTH] == before


def test_an_interrupt_without_a_signal_is_one_of_ctrl_c():
    stopping = Stopping()

    def interrupted():
        raise KeyboardInterrupt

    assert stopping.attempt(interrupted, otherwise=1) == 1
    assert stopping.signal_number == signal.SIGINT


def test_in_another_thread_no_signal_is_taken():
    before, seen = signal.getsignal(signal.SIGINT), []

    def work():
        with Stopping() as stopping:
            seen.append((signal.getsignal(signal.SIGINT), stopping.attempt(lambda: 3, otherwise=0)))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [(before, 3)]
