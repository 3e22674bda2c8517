"""`benchmarks/recommend_exhaustive.py` goes on where it was: a stub answers instead of trials."""

import importlib.util
import json
from pathlib import Path

import pytest

from deblurkit.tuning.recommend import space as space_module
from deblurkit.tuning.recommend.records import Trial, Work
from deblurkit.tuning.recommend.space_memory import CandidateMemory

PATH = Path(__file__).parents[3] / "benchmarks" / "recommend_exhaustive.py"


@pytest.fixture
def benchmark(monkeypatch):
    """The script as a module; its space is two configurations, which are neither predicted nor tried."""
    spec = importlib.util.spec_from_file_location(PATH.stem, PATH)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    whole = space_module.search_space
    folder = "deblurkit.tuning.recommend"
    monkeypatch.setattr(f"{folder}.space.search_space", lambda *given, **more: whole(*given, **more)[:2])
    monkeypatch.setattr(f"{folder}.trials.run_trial", lambda each, **more: Trial(each.key, "failed", "", 1.0))
    return module


@pytest.fixture
def counting(monkeypatch):
    """Return a function that has memory and work known, but for the work of some places in the space."""

    def know(*unknown):
        def predict(candidates, **more):
            return {each.key: CandidateMemory(8, 7, 9) for each in candidates}

        def count(candidates, **more):
            return {
                each.key: Work(1, 1, 1, 1, 1, 1, 1)
                for number, each in enumerate(sorted(candidates, key=lambda each: each.key))
                if number not in unknown
            }

        monkeypatch.setattr("deblurkit.tuning.recommend.space_memory.predict_space", predict)
        monkeypatch.setattr("deblurkit.tuning.recommend.work.count_work", count)

    return know


def test_what_cannot_be_counted_is_left_out(benchmark, counting, tmp_path, capsys):
    path = tmp_path / "lines.jsonl"
    counting(0)
    benchmark._measure(path, most=None, steps=1)
    assert len(path.read_text().splitlines()) == 1
    assert "left out, as its work cannot be counted" in capsys.readouterr().err
    counting()
    benchmark._measure(path, most=None, steps=1)
    keys = [json.loads(line)["key"] for line in path.read_text().splitlines()]
    assert len(keys) == len(set(keys)) == 2


def test_a_file_that_is_complete_stays_as_it_is(benchmark, tmp_path, monkeypatch):
    """By the real predictions: of nothing, as there is nothing left."""
    path = tmp_path / "lines.jsonl"
    space = space_module.search_space(benchmark._start(), device_kind="cpu")
    path.write_text("".join(json.dumps({"key": each.key}) + "\n" for each in space))
    before = path.read_text()
    benchmark._measure(path, most=None, steps=1)
    assert path.read_text() == before
