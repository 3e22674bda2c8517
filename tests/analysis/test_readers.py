import contextlib
import io

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deblurkit.analysis import readers
from deblurkit.analysis.readers import clean_lines, read_log
from deblurkit.analysis.report import analyze
from deblurkit.errors import DeblurkitError
from deblurkit.render.analysis import report_as_text, reports_as_json

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


def test_lines_do_not_depend_on_where_chunks_end(monkeypatch):
    whole = list(clean_lines(io.BytesIO(TEXT)))
    monkeypatch.setattr(readers, "_CHUNK_BYTES", 7)
    assert [line for line in clean_lines(io.BytesIO(TEXT)) if line] == [line for line in whole if line]


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
        (lambda path: path.write_bytes(b"hello\n"), "tried: deblurkit timing JSON lines; timing text"),
        (lambda path: path.symlink_to(path), "cannot be read"),
    ],
)
def test_files_that_are_no_logs(tmp_path, make, message):
    path = tmp_path / "x.log"
    make(path)
    with pytest.raises(DeblurkitError, match=message):
        read_log(path)


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
