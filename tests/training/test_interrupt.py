import os
import signal
import threading

import pytest

from deblurkit.training.interrupt import InterruptedRun, StopRequest


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_is_noted_and_the_handlers_come_back(number):
    before = signal.getsignal(number)
    with StopRequest() as stop:
        os.kill(os.getpid(), number)
        assert stop.signal_number == number
    assert signal.getsignal(number) is before


@pytest.mark.parametrize("second", [signal.SIGINT, signal.SIGTERM])
def test_a_second_signal_interrupts_at_once(second):
    with pytest.raises(KeyboardInterrupt), StopRequest():
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), second)
        pytest.fail("not interrupted")


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
