import json
import os

import pytest

from deblurkit.analysis import growing_log
from deblurkit.analysis.growing_log import GrowingLog
from deblurkit.analysis.readers import read_log
from deblurkit.errors import DeblurkitError
from deblurkit.timing.json_lines import JsonLinesLog
from deblurkit.timing.records import Beside, StepTiming
from deblurkit.timing.text_log import TextLog, format_summary, header

STARTED = 1_760_000_000.0


def step(number, **rows):
    rows = {
        "数据": 2.0,
        "forward": 60.0 + number,
        **{name.replace("__", "/"): ms for name, ms in rows.items()},
    }
    return StepTiming(number, STARTED + number / 10, 100.0 + number, rows)


class JsonWriter:
    def __init__(self, path):
        self.log = JsonLinesLog(
            path,
            rank=3,
            world_size=4,
            clock="host",
            samples_per_step=2,
            started_at=STARTED,
            flush_interval=1,
        )

    def step(self, number, **rows):
        self.log.write_step(step(number, **rows))

    def beside(self, seconds, after):
        self.log.write_beside(Beside("validation", seconds, 1, after))
        self.log._file.flush()

    def close(self):
        self.log.close(overhead={"per_step_us": 5.0})


class TextWriter:
    def __init__(self, path):
        head = header(rank=3, world_size=4, clock="host", samples_per_step=2, started_at=STARTED)
        self.log = TextLog(path, head=head, flush_interval=1)

    def step(self, number, **rows):
        self.log.write_step(step(number, **rows), {})

    def beside(self, seconds, after):
        self.log.write_beside(Beside("validation", seconds, 1, after))
        self.log._file.flush()

    def close(self):
        self.log.close(summary=format_summary(5, {}))


@pytest.fixture(params=[JsonWriter, TextWriter])
def writer_of(request, opened):
    return lambda path: opened(request.param, path)


@pytest.fixture
def opened():
    """Open writers and close their files at the end."""
    writers = []

    def open_one(kind, path):
        writers.append(kind(path))
        return writers[-1]

    yield open_one
    for writer in writers:
        writer.log.abandon()


def same(growing, path):
    """Compare what was read bit by bit with what is read at once."""
    whole = read_log(path)
    assert growing.log.steps.equals(whole.steps)
    assert growing.log.times.sort_index(axis=1).equals(whole.times.sort_index(axis=1))
    assert growing.log.num_steps == whole.num_steps
    assert growing.log.beside == whole.beside
    facts = ("format", "samples_per_step", "damaged_lines", "rank", "world_size", "source")
    assert [getattr(growing.log, name) for name in facts] == [getattr(whole, name) for name in facts]


def test_what_is_added_is_read_and_no_byte_twice(tmp_path, writer_of, monkeypatch):
    path = tmp_path / "log"
    stretches = []
    original = growing_log._Stretch.__init__

    def noted(self, file, start, end):
        stretches.append((start, end))
        original(self, file, start, end)

    monkeypatch.setattr(growing_log._Stretch, "__init__", noted)
    writer = writer_of(path)
    writer.step(1)
    writer.step(2)
    growing = GrowingLog(path)
    assert growing.read_on()
    same(growing, path)
    assert not growing.read_on()
    writer.step(3, forward__Stage1=20.0)  # a name that was not there before
    writer.beside(1.5, 3)
    writer.step(4)
    writer.beside(2.5, 4)
    assert growing.read_on()
    writer.step(5, backward=7.0)
    assert growing.read_on()
    same(growing, path)
    assert growing.log.times["forward/Stage1"].dropna().tolist() == [20.0]
    assert [part.seconds for part in growing.log.beside] == [1.5, 2.5]
    assert growing.log.num_steps == 5
    assert not growing.has_ended and not growing.began_anew
    assert all(end <= start for (_, end), (start, _) in zip(stretches, stretches[1:], strict=False))
    writer.close()
    growing.read_on()
    assert growing.has_ended


def test_a_half_written_step_waits_for_its_other_half(tmp_path, writer_of):
    writer = writer_of(tmp_path / "whole")
    for number in (1, 2, 3):
        writer.step(number)
    writer.log._file.flush()
    content = (tmp_path / "whole").read_bytes()
    path = tmp_path / "log"
    growing = GrowingLog(path)
    counts = []
    for end in range(0, len(content) + 1, 11):
        path.write_bytes(content[:end])
        try:
            growing.read_on()
        except DeblurkitError:
            assert growing.log is None
        counts.append(0 if growing.log is None else growing.log.num_steps)
    path.write_bytes(content)
    growing.read_on()
    assert counts == sorted(counts) and {0, 1, 2} <= set(counts)
    same(growing, path)
    assert growing.log.damaged_lines == 0


@pytest.mark.parametrize("how", ["replaced", "cut", "overwritten"])
def test_another_file_of_the_name_is_read_anew(tmp_path, writer_of, how):
    path = tmp_path / "log"
    writer = writer_of(path)
    for number in (1, 2, 3):
        writer.step(number)
    growing = GrowingLog(path)
    growing.read_on()
    other = tmp_path / "other"
    again = writer_of(other)
    for number in range(11, 13 if how == "cut" else 19):
        again.step(number)
    if how == "replaced":
        os.replace(other, path)
    else:
        path.write_bytes(other.read_bytes())  # shorter than before, or longer in the same file
    assert growing.read_on()
    assert growing.began_anew
    assert growing.log.steps["step"].tolist() == list(range(11, 13 if how == "cut" else 19))
    assert not growing.read_on() and not growing.began_anew


def test_the_clock_of_a_step_does_not_outlive_it(tmp_path, opened):
    path = tmp_path / "log"
    writer = opened(JsonWriter, path)
    growing = GrowingLog(path)
    writer.step(1)
    growing.read_on()
    writer.log.write_step(StepTiming(2, STARTED, 9.0, {"数据": 1.0}, clock="device"))
    growing.read_on()
    writer.log.write_step(StepTiming(3, STARTED, 9.0, {"数据": 1.0}))
    writer.step(4)
    growing.read_on()
    assert growing.log.notes == read_log(path).notes


def test_a_format_that_cannot_be_read_on_is_read_again_when_it_has_changed(tmp_path, opened, monkeypatch):
    reads = []

    def read(path):
        reads.append(path)
        return read_log(whole)

    whole = tmp_path / "whole"
    opened(JsonWriter, whole).step(1)
    monkeypatch.setattr(growing_log, "read_log", read)
    path = tmp_path / "log"
    path.write_text("loss: 1\n")
    growing = GrowingLog(path)
    assert growing.read_on()
    assert not growing.read_on()
    with path.open("a") as file:
        file.write("loss: 2\n")
    assert growing.read_on()
    assert len(reads) == 2
    assert not growing.has_ended


def test_before_the_first_step_it_is_said_what_is_missing(tmp_path, opened):
    path = tmp_path / "log"
    opened(JsonWriter, path)
    with pytest.raises(DeblurkitError, match="no complete step"):
        GrowingLog(path).read_on()
    path.write_text(json.dumps({"some": "thing"}))
    with pytest.raises(DeblurkitError, match="not a log that is known"):
        GrowingLog(path).read_on()
