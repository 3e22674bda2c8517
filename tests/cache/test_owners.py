import os
import subprocess
import sys

from deblurkit.cache.owners import is_alive, own_name


def test_this_process_is_alive_and_known_by_its_number():
    assert own_name().split(":")[0] == str(os.getpid())
    assert is_alive(own_name())


def test_another_process_with_a_dead_ones_number_is_not_the_same():
    pid, start = own_name().split(":")
    assert not is_alive(f"{pid}:{int(start) - 1}")


def test_a_killed_process_is_dead_before_and_after_it_is_waited_for():
    code = "from deblurkit.cache.owners import own_name; print(own_name(), flush=True); input()"
    child = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    name = child.stdout.readline().strip()
    assert is_alive(name)
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # ended, and left as it is
    assert not is_alive(name)
    child.communicate()
    assert not is_alive(name)
