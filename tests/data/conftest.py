"""The helpers of `layouts/trees.py`: pytest's importlib mode leaves test folders out of the import path."""

import importlib.util
import sys
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def trees():
    """The module that writes miniature datasets in every layout."""
    path = Path(__file__).parent / "layouts" / "trees.py"
    spec = importlib.util.spec_from_file_location("dataset_trees", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module
