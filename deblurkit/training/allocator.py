"""Memory that a step on a CPU frees stays with the process for the next step."""

from __future__ import annotations

import ctypes
import sys

# Of glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4
_ROOM = 256 * 2**20  # bytes asked for beyond what is needed, so that it is asked for seldom


def keep_freed_memory() -> bool:
    """Tell glibc to keep what is freed instead of giving it back, and return whether it will.

    A step makes and frees gigabytes of tensors; given back, every page of them is cleared by the kernel again
    in the next step, which took a third of the time of VRT's forward pass (benchmarks/results). The process
    keeps the size that its largest step needs, which it would reach again anyway. Elsewhere than on glibc
    nothing changes.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # another C library
        return False
    largest = 2**31 - 1
    wanted = ((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, largest), (_M_TOP_PAD, _ROOM))
    return all([mallopt(parameter, value) == 1 for parameter, value in wanted])
