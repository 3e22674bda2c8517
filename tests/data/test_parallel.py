import importlib
import os
import signal
import subprocess
import sys
import time

import pytest

from deblurkit.data.parallel import run_jobs
from deblurkit.errors import DataError

JOBS = """
import os, pathlib, signal, time
from deblurkit.errors import DataError

def square(job, tick):
    for _ in range(job):
        tick()
    return job * job, os.getpid()

def fail_at_three(job, tick):
    if job == 3:
        raise DataError("three: is not wanted")
    while True:  # until told to stop
        tick()
        time.sleep(0.01)

def die(job, tick):
    os.kill(os.getpid(), signal.SIGKILL)

def say_who_and_wait(folder, tick):
    (pathlib.Path(folder) / str(os.getpid())).touch()
    time.sleep(60)
"""


@pytest.fixture
def jobs(tmp_path, monkeypatch):
    """A module that worker processes can import."""
    (tmp_path / "parallel_jobs.py").write_text(JOBS)
    monkeypatch.syspath_prepend(tmp_path)
    yield importlib.import_module("parallel_jobs")
    del sys.modules["parallel_jobs"]


@pytest.mark.parametrize("workers", [1, 2])
def test_results_come_in_order_and_every_piece_is_counted(jobs, workers):
    seen = []
    results = run_jobs(
        jobs.square, [3, 1, 2], workers=workers, total=6, progress=lambda *counts: seen.append(counts)
    )
    assert [square for square, _ in results] == [9, 1, 4]
    assert seen[-1] == (6, 6) and seen == sorted(seen)
    assert (os.getpid() in {pid for _, pid in results}) == (workers == 1)


def test_an_error_stops_the_others_and_is_the_job_s_own(jobs):
    with pytest.raises(DataError, match="^three: is not wanted$"):
        run_jobs(jobs.fail_at_three, [1, 3], workers=2, total=2)


def test_ctrl_c_stops_the_workers(jobs):
    def interrupt(done, total):
        if done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_jobs(jobs.fail_at_three, [1, 2], workers=2, total=2, progress=interrupt)


def test_a_killed_worker_is_one_line(jobs):
    with pytest.raises(DataError, match="a worker process was killed: out of memory"):
        run_jobs(jobs.die, [1, 2], workers=2, total=2)


def test_workers_end_with_a_parent_that_is_killed(jobs, tmp_path):
    (tmp_path / "pids").mkdir()
    code = (
        "import parallel_jobs; from deblurkit.data.parallel import run_jobs\n"
        "if __name__ == '__main__':\n"
        f"    folders = [{str(tmp_path / 'pids')!r}] * 2\n"
        "    run_jobs(parallel_jobs.say_who_and_wait, folders, workers=2, total=2)\n"
    )
    (tmp_path / "main.py").write_text(code)
    parent = subprocess.Popen([sys.executable, tmp_path / "main.py"], stderr=subprocess.DEVNULL)
    try:
        pids = _until(lambda: _two(tmp_path / "pids"))
    finally:
        parent.send_signal(signal.SIGKILL)
        parent.wait()
    _until(lambda: not any(_runs(pid) for pid in pids))


def _two(folder):
    found = [int(path.name) for path in folder.iterdir()]
    return found if len(found) == 2 else None


def _until(condition, seconds=30):
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end
        time.sleep(0.02)
    return value


def _runs(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


FIRST_CHILD = """
import multiprocessing, signal
from deblurkit.data.parallel import without_interrupt

def held_back():
    return signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, ())

def tell(connection):
    connection.send(held_back())

if __name__ == "__main__":
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    child = context.Process(target=tell, args=(theirs,))
    with without_interrupt():
        child.start()
    print(ours.recv(), held_back())
    child.join()
"""


def test_ctrl_c_is_held_back_from_the_first_child_of_a_process_too(tmp_path):
    """With the first one Python starts a process of its own, and lets signals through again."""
    script = tmp_path / "first.py"
    script.write_text(FIRST_CHILD)
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True)
    assert done.stdout == "True False\n"
