"""A made-up machine: its proc file system, control groups and shared memory."""

from types import SimpleNamespace

import pytest

from deblurkit.memory.machine import Machine

GIB = 1024**3


@pytest.fixture
def machine_of(tmp_path):
    """Return a function that makes a machine of files below ``proc``, ``cgroup`` and ``shm``."""

    def make(files=None, *, shm=(64 * GIB, 60 * GIB)):
        for name in ("proc", "cgroup", "shm"):
            (tmp_path / name).mkdir(exist_ok=True)
        for name, text in (files or {}).items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"{text}\n")

        def statvfs(path):
            if shm is None:
                raise FileNotFoundError(2, "No such file or directory")
            size, free = (value // 4096 for value in shm)
            return SimpleNamespace(f_blocks=size, f_bfree=free, f_bavail=free, f_frsize=4096)

        return Machine(tmp_path / "proc", tmp_path / "shm", tmp_path / "cgroup", statvfs)

    return make
