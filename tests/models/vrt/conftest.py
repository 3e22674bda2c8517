"""The helpers of `references.py`: pytest's importlib mode leaves test folders out of the import path."""

import importlib.util
from pathlib import Path

import pytest

HERE = Path(__file__).parent
BENCHMARKS = HERE.parents[2] / "benchmarks"


def _module_at(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def references():
    """The module of seeded weights and clips, and of slow computations to compare with."""
    return _module_at(HERE / "references.py")


@pytest.fixture(scope="session")
def plain_vrt():
    """The module of the same network, written plainly from its description."""
    return _module_at(BENCHMARKS / "plain_vrt.py")


@pytest.fixture(scope="session")
def fixtures():
    """The folder of reference numbers."""
    return HERE / "fixtures"
