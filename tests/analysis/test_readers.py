import contextlib
import gzip
import io
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deblurkit.analysis import readers
from deblurkit.analysis.formats.log_format import LogFormat
from deblurkit.analysis.readers import logs_of_run, read_all, read_log
from deblurkit.analysis.report import analyze
from deblurkit.errors import DeblurkitError
from deblurkit.render.analysis import report_as_text
from deblurkit.render.analysis_json import reports_as_json

RULE = "=" * 80
TEXT = "".join(
    f"{RULE}\nStep {step}\n{RULE}\n"
    f"{'forward':40}: {100 + step:8.2f}ms ( 50.0%) [avg:   100.00ms]\n"
    f"  - {'注意力':36}: {40 + step:8.2f}ms [avg:    40.00ms]\n"
    f"{'backward':40}: {200:8.2f}ms ( 50.0%) [avg:   200.00ms]\n"
    f"{'Total':-<40}: {300 + step:8.2f}ms\n"
    for step in range(1, 4)
).encode()
LINES = (
    b'{"schema":"deblurkit-timing/1","samples_per_step":2,"names":["data","forward","forward/a"]}\n'
    b"[1,0.5,100.0,1.0,60.0,20.0]\n[2,0.6,101.0,null,61.0]\n[3,0.7,102.0,2.0,60.0,20.0]\n"
)


@pytest.mark.parametrize(("content", "form"), [(TEXT, "timing-text-seed"), (LINES, "timing-jsonl")])
def test_the_format_is_told_by_the_content(tmp_path, content, form):
    path = tmp_path / "misleading.csv"
    path.write_bytes(content)
    log = read_log(path)
    assert (log.format, log.num_steps) == (form, 3)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda text: text.replace(b"\n", b"\r\n"),
        lambda text: b"\xef\xbb\xbf" + text,
        lambda text: text.replace(b"forward", b"\x1b[1;32mforward\x1b[0m"),
        lambda text: b"\0" * 5000 + text.replace(b"Step 2", b"St\0ep 2"),
        lambda text: b"\n\n" + text,
    ],
)
@pytest.mark.parametrize("content", [TEXT, LINES])
def test_dirt_in_a_file_changes_nothing(tmp_path, content, spoil):
    (tmp_path / "clean").write_bytes(content)
    (tmp_path / "dirty").write_bytes(spoil(content))
    clean, dirty = read_log(tmp_path / "clean"), read_log(tmp_path / "dirty")
    assert dirty.times.equals(clean.times)
    assert dirty.steps.equals(clean.steps)
    assert dirty.damaged_lines == 0


def test_a_log_after_a_long_foreign_prelude_is_still_read(tmp_path):
    path = tmp_path / "x.log"
    path.write_bytes(b"loading the data\n" * 50_000 + TEXT)
    assert read_log(path).num_steps == 3


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: None, "no such file"),
        (lambda path: path.mkdir(), "is a folder"),
        (lambda path: path.write_bytes(b""), "is empty"),
        (lambda path: path.write_bytes(b"\0\0\n\n"), "is empty"),
        (lambda path: path.write_bytes(b"hello\n"), "not a log that is known here; tried: "),
        (lambda path: path.write_bytes(b"\xfd7zXZ\0\0\4"), "packed with xz; expected gzip or nothing"),
        (lambda path: path.write_bytes(gzip.compress(b"")), "is empty"),
        (lambda path: path.write_bytes(gzip.compress(TEXT)[:8]), "is empty.*the gzip file is cut off"),
        (lambda path: path.symlink_to(path), "cannot be read"),
    ],
)
def test_files_that_are_no_logs(tmp_path, make, message):
    path = tmp_path / "x.log"
    make(path)
    with pytest.raises(DeblurkitError, match=message):
        read_log(path)


def test_who_is_not_known_is_told_all_that_was_tried(tmp_path):
    path = tmp_path / "x.log"
    path.write_bytes(b"hello\n")
    with pytest.raises(DeblurkitError) as error:
        read_log(path)
    assert all(form.name in str(error.value) for form in readers.FORMATS)


@pytest.mark.parametrize("content", [TEXT, LINES])
def test_gzip_is_unpacked_whatever_the_name_says(tmp_path, content):
    (tmp_path / "plain.log").write_bytes(content)
    (tmp_path / "packed.log").write_bytes(gzip.compress(content))
    plain, packed = (read_log(tmp_path / name) for name in ("plain.log", "packed.log"))
    assert packed.times.equals(plain.times) and packed.steps.equals(plain.steps)
    assert packed.notes == plain.notes


def test_of_a_gzip_file_that_is_cut_off_the_beginning_is_read_and_the_rest_said(tmp_path):
    path = tmp_path / "x.log.gz"
    packed = gzip.compress(b"".join(b"%d\n%s" % (at * 7919, TEXT) for at in range(300)))
    path.write_bytes(packed[: len(packed) // 2])
    log = read_log(path)
    assert 300 < log.num_steps < 600
    assert any("The gzip file is cut off" in note for note in log.notes)


class Pipe(io.RawIOBase):
    """A stream that gives what it likes and cannot go back, as a pipe."""

    def __init__(self, content):
        self._content = io.BytesIO(content)

    def readable(self):
        return True

    def seekable(self):
        return False

    def readinto(self, buffer):
        return self._content.readinto(memoryview(buffer)[:11])


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_standard_input_is_read_once_and_need_not_be_seekable(monkeypatch, pack):
    stdin = io.TextIOWrapper(io.BufferedReader(Pipe(pack(TEXT)), 16))
    monkeypatch.setattr(sys, "stdin", stdin)
    (log,) = read_all([Path("-")])
    assert (log.num_steps, log.source) == (3, "standard input")
    with pytest.raises(DeblurkitError, match="given twice"):
        read_all([Path("-"), Path("-")])


def test_a_format_of_bytes_is_given_all_of_them_from_the_beginning(monkeypatch):
    given = b"\xef\xbb\xbf\0\x1b[0m\r\n" + bytes(range(256)) * 9000  # more than what is looked at
    seen = {}

    def read(file, *, source):
        seen["all"] = file.read(5) + file.read()
        return "the log"

    form = LogFormat("bytes", lambda head: given.startswith(head), read, is_binary=True)
    monkeypatch.setattr(readers, "FORMATS", (form, *readers.FORMATS))
    assert readers.read_stream(io.BytesIO(given), source="x") == "the log"
    assert seen["all"] == given


def test_the_logs_of_a_run_are_times_and_what_is_beside_them(tmp_path):
    folder = tmp_path / "run"
    (folder / "logs").mkdir(parents=True)
    contents = {
        "timing_1700000100.rank0.jsonl": LINES,
        "timing_1700000200.rank0.jsonl": LINES[: LINES.index(b"\n") + 1],  # resumed at its end
        "timing_1700000100.log": TEXT,
        "train_1700000100.log": b"2026-01-31 10:00:01 step 950/8880 | loss=0.01234 | lr=4.000e-04\n",
        "train_1700000200.log": b"nothing to do\n",
        "notes.txt": TEXT,
    }
    for name, content in contents.items():
        (folder / "logs" / name).write_bytes(content)
    found = [path.name for path in logs_of_run(folder)]
    assert found == ["timing_1700000100.rank0.jsonl", "train_1700000100.log"]
    (folder / "logs" / "timing_1700000100.rank0.jsonl").unlink()
    assert logs_of_run(folder)[0].name == "timing_1700000200.rank0.jsonl"  # whose reader says what is wrong


def test_a_folder_without_logs_of_times_is_told_where_some_are(tmp_path):
    (tmp_path / "run" / "logs").mkdir(parents=True)
    with pytest.raises(DeblurkitError, match="without timing logs") as error:
        logs_of_run(tmp_path)
    assert "try" not in str(error.value)
    (tmp_path / "run" / "logs" / "timing_1.log").write_bytes(TEXT)
    with pytest.raises(DeblurkitError, match=r"try '.*/\*/logs/timing_\*\.log'"):
        logs_of_run(tmp_path)


def survives(path, content):
    path.write_bytes(content)
    with contextlib.suppress(DeblurkitError):
        report = analyze(read_log(path))
        assert report.phases["share"].sum() == pytest.approx(1)
        report_as_text(report).encode()
        reports_as_json([report]).encode()


quick = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@quick
@given(content=st.binary(max_size=400))
def test_any_bytes_give_a_report_or_our_error(tmp_path, content):
    survives(tmp_path / "x", content)
    survives(tmp_path / "x", TEXT + content)
    survives(tmp_path / "x", LINES + content)


@quick
@given(
    content=st.sampled_from([TEXT, LINES]),
    cuts=st.lists(st.tuples(st.integers(0, 900), st.integers(0, 90), st.binary(max_size=12)), max_size=6),
)
def test_a_damaged_log_gives_a_report_or_our_error(tmp_path, content, cuts):
    for start, length, inserted in cuts:
        content = content[:start] + inserted + content[start + length :]
    survives(tmp_path / "x", content)


@quick
@given(
    lines=st.lists(
        st.sampled_from([*TEXT.splitlines(), *LINES.splitlines(), b"...", b"Total : 0.00ms", b"x : 0.00ms"]),
        max_size=40,
    )
)
def test_lines_in_any_order_give_a_report_or_our_error(tmp_path, lines):
    survives(tmp_path / "x", b"\n".join(lines))


def test_standard_input_that_is_closed_is_told(monkeypatch):
    monkeypatch.setattr("sys.stdin", None)
    with pytest.raises(DeblurkitError, match=r"standard input\) is closed"):
        read_log(Path("-"))
