"""Real signals, sent by this process to itself at every place where they may come."""

import os
import signal
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


def test_a_second_ctrl_c_interrupts_whatever_goes_on():
    with pytest.raises(KeyboardInterrupt), Stopping():
        send(signal.SIGTERM)
        send(signal.SIGINT)


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
