"""A space of 48 configurations measured once, all of it; then what a search that tries 10 of them would say.

The space is that of quickstart_vrt with 8 clips a step on this CPU: micro-batches of 1, 2, 4 and 8, six ways
of recomputation, two optimisers. Measuring takes half an hour on a quiet machine; it may be stopped, and goes
on where it was. Judging takes a minute and measures nothing: trials are answered from the file.

    python benchmarks/recommend_exhaustive.py --measure benchmarks/results/part8_exhaustive.jsonl
    python benchmarks/recommend_exhaustive.py --judge benchmarks/results/part8_exhaustive.jsonl

Beside the search stand: doubling of the batch until it does not fit, as Lightning's scaler does;
a grid of all micro-batches with and without recomputation, as DeepSpeed's autotuner launches; and the rule
that was written by hand (8-bit AdamW, then a batch of 2, of 3, then no recomputation). Quality is the share
of the true best's samples a second, of those that fit into the budget by what was measured.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import random
import statistics
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from deblurkit.config.schema import Config
    from deblurkit.tuning.recommend.records import Candidate, Trial, Work
    from deblurkit.tuning.recommend.search import Search
    from deblurkit.tuning.recommend.space_memory import CandidateMemory

START = [
    "TRAIN.BATCH_SIZE=2",
    "TRAIN.GRADIENT_ACCUMULATION_STEPS=4",
    "TRAIN.DEVICE=cpu",
    "DATA.CROP_SIZE=40",  # the least that VRT's flow takes
]
QUANTILES = (0.25, 0.5, 1.0)  # of what the candidates need: the budgets
SEEDS = 20
TRIALS = 10


class Measured(NamedTuple):
    """A line of the file."""

    candidate: Candidate
    memory: CandidateMemory
    work: Work
    trial: Trial

    @property
    def rate(self) -> float:
        """Clips a second; 0 where no step was measured."""
        steps = self.trial.step_seconds
        return self.candidate.effective_batch / statistics.median(steps) if steps else 0.0


class Answer(NamedTuple):
    """What a way of choosing has come to."""

    trials: int
    seconds: float
    chosen: Measured | None


def main() -> None:
    options = _options()
    if options.measure:
        _measure(options.measure, most=options.most, steps=options.steps)
    if options.judge:
        found = _judged(_read(options.judge))
        print(json.dumps(found, indent=2) if options.json else _as_markdown(found))


def _start() -> Config:
    from deblurkit.config.load import load_config

    return load_config("quickstart_vrt", None, START, warn=lambda text: None)


def _measure(path: Path, *, most: int | None, steps: int) -> None:
    """Measure what is not yet in the file, in random order; at most so many."""
    from deblurkit.tuning.recommend.kept_lines import append_line, read_lines
    from deblurkit.tuning.recommend.records import Budget
    from deblurkit.tuning.recommend.space import search_space
    from deblurkit.tuning.recommend.space_memory import predict_space
    from deblurkit.tuning.recommend.trials import run_trial
    from deblurkit.tuning.recommend.work import count_work

    space = search_space(_start(), device_kind="cpu")
    done = {line["key"] for line in read_lines(path)}
    left = [each for each in space if each.key not in done]
    random.Random(8).shuffle(left)
    left = left[:most]
    print(f"{len(space)} candidates, {len(done)} measured; measuring {len(left)}", file=sys.stderr)
    memory = predict_space(
        left, device_kind="cpu", budget=Budget(), store=None, on_progress=_told("predicted")
    )
    work = count_work(left, device_kind="cpu", on_progress=_told("counted"))
    for number, candidate in enumerate(left, start=1):
        if candidate.key not in work:
            print(f"{number} of {len(left)}: left out, as its work cannot be counted", file=sys.stderr)
            continue
        trial = run_trial(candidate, steps=steps, limit_seconds=1800.0, follow_memory=True)
        line = {
            "key": candidate.key,
            "settings": candidate.settings,
            "choices": candidate.choices,
            "effect": candidate.effect,
            "memory": dataclasses.asdict(memory[candidate.key]),
            "work": dataclasses.asdict(work[candidate.key]),
            "trial": dataclasses.asdict(trial),
        }
        if not append_line(path, line):
            sys.exit(f"{path} cannot be written")
        said = f"{statistics.median(trial.step_seconds):.2f} s" if trial.step_seconds else trial.outcome
        print(f"{number} of {len(left)}: {dict(candidate.choices)}: {said}", file=sys.stderr, flush=True)


def _told(what: str) -> Callable[[int, int], None]:
    return lambda done, total: print(f"{what} {done} of {total}", file=sys.stderr)


def _read(path: Path) -> list[Measured]:
    from deblurkit.config.changed import changed
    from deblurkit.tuning.recommend.kept_lines import read_lines
    from deblurkit.tuning.recommend.records import Candidate, Trial, Work
    from deblurkit.tuning.recommend.space_memory import CandidateMemory

    start, found = _start(), []
    for line in read_lines(path):
        config = changed(start, line["settings"])
        if config is None:
            sys.exit(f"{path}: no configuration has {line['settings']}")
        trial = Trial(**{**line["trial"], "step_seconds": tuple(line["trial"]["step_seconds"])})
        candidate = Candidate(line["settings"], config, line["choices"], line["effect"])
        found.append(Measured(candidate, CandidateMemory(**line["memory"]), Work(**line["work"]), trial))
    if not found:
        sys.exit(f"{path}: nothing was measured yet; see --measure")
    return sorted(found, key=lambda each: bool(each.candidate.settings))


def _judged(space: list[Measured]) -> dict[str, Any]:
    needs = sorted(each.memory.peak_bytes or 0 for each in space)
    budgets = [needs[min(len(needs) - 1, round(share * len(needs)))] for share in QUANTILES]
    budgets[-1] = max(budgets[-1], *(each.trial.peak_bytes or 0 for each in space))
    return {
        "candidates": len(space),
        "seconds_of_all": sum(each.trial.seconds for each in space),
        "memory": _memory_errors(space),
        "budgets": [_at_budget(space, budget) for budget in budgets],
        "throughput": _throughput_errors(space, budgets[-1]),
    }


def _memory_errors(space: Sequence[Measured]) -> dict[str, Any]:
    pairs = [(each.memory.tensor_bytes, each.trial.peak_bytes) for each in space]
    errors = [abs(said / held - 1) for said, held in pairs if said and held]
    return {"compared": len(errors), "median": statistics.median(errors), "most": max(errors)}


def _at_budget(space: Sequence[Measured], budget: int) -> dict[str, Any]:
    """Return how each way of choosing does where ``budget`` bytes are there."""
    best = max(each.rate for each in space if _fits(each, budget))
    searches = [_of_search(_searched(space, budget, seed), space) for seed in range(SEEDS)]
    ways = {
        "recommend-config": searches,
        "doubling (Lightning)": [_doubling(space, budget)],
        "grid (DeepSpeed)": [_grid(space, budget)],
        "hand rule": [_hand_rule(space, budget)],
    }
    rows = {name: _summary(answers, best) for name, answers in ways.items()}
    return {"bytes": budget, "fitting": sum(_fits(e, budget) for e in space), "best": best, "ways": rows}


def _fits(each: Measured, budget: int) -> bool:
    return each.trial.outcome == "measured" and (each.trial.peak_bytes or 0) <= budget


def _summary(answers: Sequence[Answer], best: float) -> dict[str, float]:
    shares = [answer.chosen.rate / best if answer.chosen else 0.0 for answer in answers]
    return {
        "trials": max(answer.trials for answer in answers),
        "seconds": statistics.median(answer.seconds for answer in answers),
        "quality": statistics.median(shares),
        "worst_quality": min(shares),
    }


def _searched(space: Sequence[Measured], budget: int, seed: int) -> Search:
    """Return a search that has ended, whose trials were answered from what was measured."""
    from deblurkit.data.workers import available_cpus
    from deblurkit.tuning.recommend.cards import prior_for_cpu
    from deblurkit.tuning.recommend.records import Budget
    from deblurkit.tuning.recommend.search import Search

    by_key = {each.candidate.key: each for each in space}
    search = Search(
        [each.candidate for each in space],
        memory={key: each.memory for key, each in by_key.items()},
        work={key: each.work for key, each in by_key.items()},
        budget=Budget(device_bytes=budget, trials=TRIALS),
        run=lambda candidate: _replayed(by_key[candidate.key], budget),
        prior=prior_for_cpu(available_cpus()),
        seed=seed,
    )
    while search.step() is not None:
        pass
    return search


def _replayed(each: Measured, budget: int) -> Trial:
    """Return the trial as it would have gone with ``budget`` bytes."""
    if each.trial.outcome != "measured" or _fits(each, budget):
        return each.trial
    return dataclasses.replace(
        each.trial, outcome="out of memory", ran_out="device", step_seconds=(), phases=None
    )


def _of_search(search: Search, space: Sequence[Measured]) -> Answer:
    best = search.best()
    chosen = next((each for each in space if best and each.candidate is best.candidate), None)
    return Answer(len(search.trials), sum(trial.seconds for trial in search.trials), chosen)


def _doubling(space: Sequence[Measured], budget: int) -> Answer:
    """Double the micro-batch of the start, from 1, until it does not fit; the largest that did is taken."""
    start = space[0].candidate
    like = [each for each in space if _differs(each.candidate, start) <= {"batch"}]
    return _until_too_large(sorted(like, key=lambda each: each.candidate.batch_size), budget)


def _until_too_large(tried: Sequence[Measured], budget: int) -> Answer:
    chosen, seconds = None, 0.0
    for number, each in enumerate(tried, start=1):
        seconds += each.trial.seconds
        if not _fits(each, budget):
            return Answer(number, seconds, chosen)
        chosen = each
    return Answer(len(tried), seconds, chosen)


def _grid(space: Sequence[Measured], budget: int) -> Answer:
    """Try every micro-batch, without recomputation and with all of it; the fastest that fits is taken."""
    optimizer = space[0].candidate.choices["optimizer"]
    tried = [
        each
        for each in space
        if each.candidate.choices["optimizer"] == optimizer and _recomputes(each) in (_NONE, _ALL)
    ]
    fitting = [each for each in tried if _fits(each, budget)]
    chosen = max(fitting, key=lambda each: each.rate, default=None)
    return Answer(len(tried), sum(each.trial.seconds for each in tried), chosen)


_NONE, _ALL = (False, False), (True, True)


def _hand_rule(space: Sequence[Measured], budget: int) -> Answer:
    """Follow the table of the hand: 8-bit AdamW, batch 2, batch 3 (none divides 8: 4), no recomputation."""
    eight_bit = [each for each in space if each.candidate.choices["optimizer"].startswith("adamw8bit")]
    all_again = {each.candidate.batch_size: each for each in eight_bit if _recomputes(each) == _ALL}
    path = [all_again[batch] for batch in (1, 2, 4) if batch in all_again]
    last = path[-1].candidate.batch_size if path else None
    path += [e for e in eight_bit if _recomputes(e) == _NONE and e.candidate.batch_size == last]
    return _until_too_large(path, budget)


def _recomputes(each: Measured) -> tuple[Any, Any]:
    """Return whether attention and MLPs are computed again in all stages; a mixture as it is."""
    vrt = each.candidate.config.model.vrt
    return _alike(vrt.use_checkpoint_attn), _alike(vrt.use_checkpoint_ffn)


def _alike(flags: bool | tuple[bool, ...]) -> bool | tuple[bool, ...]:
    return flags[0] if isinstance(flags, tuple) and len(set(flags)) == 1 else flags


def _differs(one: Candidate, other: Candidate) -> set[str]:
    return {axis for axis, word in one.choices.items() if other.choices.get(axis) != word}


def _throughput_errors(space: Sequence[Measured], budget: int) -> dict[str, Any]:
    """Return how far what was not tried is from what the search says of it, over all seeds."""
    errors, inside = [], []
    for seed in range(SEEDS):
        for said, held in _untried(_searched(space, budget, seed), space):
            errors.append(abs(said.samples_per_second / held - 1))
            inside.append(said.interval[0] <= held <= said.interval[1])
    if not errors:
        return {"compared": 0}
    return {"compared": len(errors), "median": statistics.median(errors), "inside": statistics.mean(inside)}


def _untried(search: Search, space: Sequence[Measured]) -> Iterator[tuple[Any, float]]:
    rates: Mapping[str, float] = {each.candidate.key: each.rate for each in space}
    for row in search.rows():
        if row.trial is None and row.estimate is not None and rates[row.candidate.key]:
            yield row, rates[row.candidate.key]


def _as_markdown(found: dict[str, Any]) -> str:
    lines = [
        f"{found['candidates']} configurations; measuring all took {found['seconds_of_all'] / 60:.0f} min.",
        "",
        "| budget [MiB] | fit | way | trials | seconds | of the true best | at worst |",
        "|---:|---:|---|---:|---:|---:|---:|",
    ]
    for at in found["budgets"]:
        for name, way in at["ways"].items():
            lines.append(
                f"| {at['bytes'] / 2**20:.0f} | {at['fitting']} | {name} | {way['trials']} |"
                f" {way['seconds']:.0f} | {100 * way['quality']:.1f} % | {100 * way['worst_quality']:.1f} % |"
            )
    memory, speed = found["memory"], found["throughput"]
    lines += [
        "",
        f"Peak of tensors, predicted against measured, {memory['compared']} configurations: median"
        f" {100 * memory['median']:.2f} %, at most {100 * memory['most']:.2f} % apart.",
    ]
    if speed["compared"]:
        lines.append(
            f"Samples a second of what was not tried ({SEEDS} searches): median error"
            f" {100 * speed['median']:.1f} %, {100 * speed['inside']:.0f} % inside their 90 % intervals."
        )
    return "\n".join(lines)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--measure", type=Path, metavar="FILE", help="measure what is not yet in FILE")
    parser.add_argument("--most", type=int, help="measure so many at most")
    parser.add_argument("--steps", type=int, default=8, help="timed in each trial")
    parser.add_argument("--judge", type=Path, metavar="FILE", help="compare ways of choosing by FILE")
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    main()
