import ctypes
import subprocess
import sys

import pytest

from deblurkit.training.allocator import keep_freed_memory

SCRIPT = """
import sys
from pathlib import Path
from deblurkit.training.allocator import keep_freed_memory

def resident():
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096

if sys.argv[1] == "keep":
    assert keep_freed_memory()
before = resident()
held = bytearray(64 * 2**20)
del held
print((resident() - before) / 2**20)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc is Linux's")
@pytest.mark.parametrize(("how", "is_kept"), [("keep", True), ("as it comes", False)])
def test_freed_memory_stays_resident_where_asked_for(how, is_kept):
    """The kernel's own count of resident pages after 64 MiB were written and freed."""
    done = subprocess.run([sys.executable, "-c", SCRIPT, how], check=True, capture_output=True, text=True)
    assert (float(done.stdout) > 60) == is_kept


def test_another_c_library_is_left_alone(monkeypatch):
    monkeypatch.setattr(ctypes, "CDLL", lambda name: object())
    assert not keep_freed_memory()
