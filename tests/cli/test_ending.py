"""What is left undone, and what is not, where a rank ends: seen from outside the process."""

import os
import subprocess
import sys

import pytest

SCRIPT = """
import atexit, sys
from deblurkit.cli.ending import Ending
class Left:
    def __del__(self):
        print("interpreter taken down", flush=True)
def told():
    print("said at exit")  # not flushed: the ending has to
ending = Ending()
atexit.register(told)
left = Left()
{end}
"""


def ended(end, **more):
    environment = {name: value for name, value in os.environ.items() if name != "WORLD_SIZE"} | more
    command = [sys.executable, "-c", SCRIPT.replace("{end}", end)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("code", [0, 1, 143])
def test_a_rank_leaves_while_the_interpreter_stands_after_all_that_is_done_at_exit(code):
    done = ended(f"ending.leave({code})", WORLD_SIZE="2")
    assert (done.returncode, done.stdout) == (code, "said at exit\n")


def test_a_process_alone_ends_as_usual():
    done = ended("ending.leave(3)")
    assert (done.returncode, done.stdout) == (3, "said at exit\ninterpreter taken down\n")


def test_an_error_that_nobody_caught_is_told_and_not_taken_for_success():
    done = ended("raise RuntimeError('unforeseen')", WORLD_SIZE="2")
    assert done.returncode == 1 and "RuntimeError: unforeseen" in done.stderr


def test_a_closed_stream_does_not_change_the_code():
    done = ended("import os; print('x'); os.close(1); ending.leave(0)", WORLD_SIZE="2")
    assert done.returncode == 0
