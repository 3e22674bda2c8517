import os
import signal
import threading
import time

import pytest

from deblurkit.training.interrupt import InterruptedRun, StopRequest

STOPPING = [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1]


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


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGUSR1])
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
