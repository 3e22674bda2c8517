"""What the tests of the cache share: caches that are closed, and scripts run as processes of their own."""

import subprocess
import sys

import pytest

from deblurkit.cache.node_cache import NodeCache


@pytest.fixture
def join(tmp_path):
    """Return a function that joins a cache under ``tmp_path / "shm"``; all are closed after the test."""
    joined = []
    (tmp_path / "shm").mkdir()

    def make(name="test", *, max_bytes=1 << 20, **options):
        joined.append(NodeCache.join(name, max_bytes=max_bytes, root=tmp_path / "shm", **options))
        return joined[-1]

    yield make
    for cache in joined:
        cache.close()


@pytest.fixture
def start():
    """Return a function that starts Python code as a process, with its arguments; killed after the test."""
    started = []

    def run(code, *arguments):
        command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", code, *map(str, arguments)]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        started.append(subprocess.Popen(command, text=True, **pipes))
        return started[-1]

    yield run
    for process in started:
        process.kill()
        process.communicate()
