"""Damaged timing logs: no exception but ours, every line counted, and quick and patient readers agree."""

import contextlib
import json
import random
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deblurkit.analysis.formats import timing_jsonl
from deblurkit.analysis.formats.timing_blocks import BlockFinder
from deblurkit.analysis.formats.timing_jsonl import read_json_lines
from deblurkit.analysis.formats.timing_text import read_text_log
from deblurkit.errors import DeblurkitError
from deblurkit.timing.records import StepTiming
from deblurkit.timing.text_log import format_step, header

RULE = "=" * 80
TREE = {"前向传播总耗时": ("编码器", "VRT处理", "重建"), "backward": ("Stage1", "Stage2"), "optimizer": ()}
ROWS = sum(1 + len(parts) for parts in TREE.values())
NAMES = ["data", "forward", "forward/注意力", "backward"]
JSON_HEAD = json.dumps(
    {"schema": "deblurkit-timing/1", "rank": 0, "world_size": 1, "clock": "host", "names": NAMES},
    ensure_ascii=False,
)
quick = settings(max_examples=100, deadline=None, derandomize=True)


def seed_step(number, rng):
    """Return the lines of a step as the seed writes them."""
    lines = [RULE, f"Step {number}", RULE]
    total = 0.0
    for name, parts in TREE.items():
        values = [rng.uniform(1, 200) for _ in parts]
        whole = round(sum(values) + rng.uniform(1, 50), 2)
        total += whole
        lines.append(f"{name:<40}: {whole:8.2f}ms ({33.3:5.1f}%) [avg: {whole:8.2f}ms]")
        order = sorted(zip(values, parts, strict=True), reverse=True)
        lines += [f"  - {part:<36}: {value:8.2f}ms [avg: {value:8.2f}ms]" for value, part in order]
    return [*lines, f"{'Total':-<40}: {total:8.2f}ms"]


def our_step(number, rng):
    """Return the lines of a step as our logger writes them: other padding, deeper rows, time left over."""
    times = {
        "数据: 加载": rng.uniform(1, 9),
        "forward": rng.uniform(50, 60),
        "forward/a": rng.uniform(10, 20),
    }
    times |= {"forward/a/注意力": rng.uniform(1, 9), "backward": rng.uniform(90, 120_000)}
    wall = sum(ms for name, ms in times.items() if "/" not in name) + rng.choice([0.0, 25.0])
    return format_step(StepTiming(number, 0.0, wall, times), {}).splitlines()


def json_row(number, rng):
    values = ",".join("null" if rng.random() < 0.1 else f"{rng.uniform(0, 500):.4f}" for _ in NAMES)
    return f"[{number},{1.7e9 + number:.3f},{rng.uniform(600, 700):.4f},{values}]"


def mutated(line, rng):
    """Return a line with something wrong in it: cut, or a byte changed, put in or taken out, or all of it."""
    at = rng.randrange(len(line) + 1)
    other = bytes([rng.choice(b' :.0193(%)[]{},ms=-/\t"\xe5\xff' + bytes([rng.randrange(11, 256)]))])
    changes = (line[:at], line[:at] + other + line[at + 1 :], line[:at] + other + line[at:])
    return rng.choice([*changes, line[:at] + line[at + 1 :], other * rng.randrange(3), line * 2])


def read_patiently(monkeypatch, lines):
    with monkeypatch.context() as patch:
        patch.setattr(BlockFinder, "find", lambda self, chunk: iter(()))
        return outcome(read_text_log, lines)


def outcome(read, lines):
    """Return all that a log says, comparable, or the words of our error."""
    try:
        log = read(lines, source="x")
    except DeblurkitError as error:
        return str(error)
    tables = [{name: table[name].tolist() for name in sorted(table)} for table in (log.steps, log.times)]
    return repr((tables, log.damaged_lines, log.notes, log.format, log.num_steps, log.rank, log.beside))


def spoiled_lines(lines, rng, *, damages):
    lines = [line.encode() for line in lines]
    for _ in range(damages):
        at = rng.randrange(len(lines))
        lines[at] = mutated(lines[at], rng)
        if rng.random() < 0.1:
            lines.insert(at, lines[rng.randrange(len(lines))])
    return lines


@pytest.mark.parametrize("make", [seed_step, our_step])
@quick
@given(seed=st.integers(0, 2**32), steps=st.integers(1, 30), damages=st.sampled_from([0, 1, 2, 5, 40]))
def test_many_at_a_time_reads_the_same_as_line_by_line(make, seed, steps, damages):
    rng = random.Random(seed)
    lines = [line for number in range(1, steps + 1) for line in make(number, rng)]
    if rng.random() < 0.5:
        head = header(rank=1, world_size=2, clock="host", samples_per_step=8, started_at=0.0)
        lines.insert(0, head.rstrip("\n"))
    lines = spoiled_lines(lines, rng, damages=damages)
    with pytest.MonkeyPatch.context() as monkeypatch:
        assert outcome(read_text_log, lines) == read_patiently(monkeypatch, lines)


@quick
@given(seed=st.integers(0, 2**32), steps=st.integers(1, 60), damages=st.sampled_from([0, 1, 3, 20]))
def test_rows_of_json_as_a_table_are_the_same_as_line_by_line(seed, steps, damages):
    rng = random.Random(seed)
    rows = [json_row(number, rng) for number in range(1, steps + 1)]
    rows.insert(rng.randrange(steps), json.dumps({"names": [*NAMES, "neu"], "clock": "device"}))
    lines = [JSON_HEAD.encode(), *spoiled_lines(rows, rng, damages=damages)]
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(timing_jsonl, "number_rows", lambda text, decimals: None)
        patient = outcome(read_json_lines, lines)
    assert outcome(read_json_lines, lines) == patient


def json_counts_add_up(lines):
    """Check that each line is a step, an object that the reader knows, or counted as damaged."""
    try:
        log = read_json_lines(lines, source="x")
    except DeblurkitError:
        return 0
    filled = sum(bool(line.strip()) for part in lines for line in part.split(b"\n"))
    assert log.num_steps + log.damaged_lines + understood_objects(lines) == filled
    return log.damaged_lines


def understood_objects(lines):
    found = 0
    for line in lines:
        with contextlib.suppress(ValueError):
            what = json.loads(line.decode("utf-8", "replace"))
            names = what.get("names") if isinstance(what, dict) else None
            found += isinstance(names, list) and all(isinstance(name, str) for name in names)
    return found


@quick
@given(seed=st.integers(0, 2**32), steps=st.integers(1, 60), damages=st.sampled_from([0, 1, 3, 20]))
def test_every_line_of_json_is_accounted_for(seed, steps, damages):
    rng = random.Random(seed)
    rows = [json_row(number, rng) for number in range(1, steps + 1)]
    rows.insert(rng.randrange(steps), json.dumps({"names": [*NAMES, "neu"]}))
    json_counts_add_up([JSON_HEAD.encode(), *spoiled_lines(rows, rng, damages=damages)])


def spoiled_step(number, rng):
    """Return the lines of a step with one spoiled, and what is lost: (lines, step, damaged lines, values).

    What each fault costs is known beforehand; ``step`` is 1 where it costs the whole step.
    """
    lines = seed_step(number, rng)
    tops = [at for at, line in enumerate(lines[:-1]) if "ms" in line and not line.startswith(" ")]
    parts = [at for at, line in enumerate(lines) if line.startswith("  - ")]
    top = rng.choice(tops)
    hidden = len(list(TREE.values())[tops.index(top)])
    fault = rng.randrange(7)
    if fault == 0:  # a part: it alone is lost
        at = rng.choice(parts)
        lines[at] = lines[at][: rng.randrange(6, 50)]
        return lines, 0, 1, 1
    if fault == 1:  # a parent: nobody knows whose its parts are
        lines[top] = lines[top].replace("ms", "m\ufffd")
        return lines, 0, 1 + hidden, 1 + hidden
    if fault == 2:  # the total: the step has no end
        del lines[-1]
        return lines, 1, 0, 0
    if fault == 3:  # a total cut off in its number is no total either
        lines[-1] = lines[-1][: rng.randrange(42, 47)]
        return lines, 1, 1, 0
    if fault == 4:  # a value that is no time
        at = rng.choice(parts)
        lines[at] = re.sub(
            r": +[\d.]+ms \[", rng.choice([":  nanms [", ": -4.00ms [", ": 1.2.3ms ["]), lines[at]
        )
        return lines, 0, 1, 1
    if fault == 5:  # something else printed in between, before a row of the top
        lines.insert(top, "Traceback (most recent call last):")
        return lines, 0, 1, 0
    lines.append("validation: 123.45ms")  # between two steps it is nobody's
    return lines, 0, 0, 0


def text_counts_add_up(rng, steps):
    lines, lost_steps, damaged, lost_values = [], 0, 0, 0
    for number in range(1, steps + 1):
        step, *costs = spoiled_step(number, rng) if rng.random() < 0.8 else (seed_step(number, rng), 0, 0, 0)
        lines += step
        lost_steps += costs[0]
        damaged += costs[1]
        lost_values += costs[2]
    log = read_text_log([line.encode() for line in [*lines, *seed_step(steps + 1, rng)]], source="x")
    unfinished = [int(note.split(" ")[0].replace(",", "")) for note in log.notes if "without a total" in note]
    assert sum(unfinished) == lost_steps
    assert log.num_steps == steps + 1 - lost_steps
    assert log.damaged_lines == damaged
    assert int(log.times.notna().sum().sum()) == log.num_steps * ROWS - lost_values
    return steps


@quick
@given(seed=st.integers(0, 2**32), steps=st.integers(1, 40))
def test_every_fault_in_text_is_counted_once(seed, steps):
    text_counts_add_up(random.Random(seed), steps)


@pytest.mark.slow
def test_100_000_spoiled_lines_of_text(monkeypatch):
    rng = random.Random(7)
    spoiled = 0
    while spoiled < 100_000:
        spoiled += text_counts_add_up(rng, 1000) * 8 // 10
    spoiled = 0
    while (
        spoiled < 100_000
    ):  # and whatever may happen to bytes, in batches that stay below the limit of names
        lines = [line for number in range(100) for line in rng.choice([seed_step, our_step])(number, rng)]
        lines = spoiled_lines(lines, rng, damages=500)
        assert outcome(read_text_log, lines) == read_patiently(monkeypatch, lines)
        spoiled += 500


@pytest.mark.slow
def test_100_000_spoiled_lines_of_json():
    rng = random.Random(7)
    damaged = 0
    while damaged < 100_000:
        rows = [json_row(number, rng) for number in range(2000)]
        damaged += json_counts_add_up([JSON_HEAD.encode(), *spoiled_lines(rows, rng, damages=2000)])
