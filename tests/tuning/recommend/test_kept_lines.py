import json
import multiprocessing
import os
import stat

import pytest

from deblurkit.tuning.recommend.kept_lines import append_line, kept_folder, read_lines


def test_what_is_added_is_read_back_in_order_by_its_owner_alone(tmp_path):
    path = tmp_path / "kept" / "lines.jsonl"
    assert append_line(path, {"key": "a", "name": "王"}) and append_line(path, {"key": "b"})
    assert read_lines(path) == [{"key": "a", "name": "王"}, {"key": "b"}]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_torn_and_foreign_lines_are_passed_over_and_the_next_one_is_whole(tmp_path):
    path = tmp_path / "lines.jsonl"
    path.write_bytes(b'[1, 2]\n\xff\xfe\n\n{"key": 1}\n{"key": 2, "torn')
    assert read_lines(path) == [{"key": 1}]
    assert append_line(path, {"key": 3})
    assert read_lines(path) == [{"key": 1}, {"key": 3}]


def test_a_file_that_is_not_there_or_is_another_users_holds_nothing(tmp_path, monkeypatch):
    path = tmp_path / "lines.jsonl"
    assert read_lines(path) == []
    append_line(path, {"key": 1})
    own = os.getuid()
    monkeypatch.setattr(os, "getuid", lambda: own + 1)
    assert read_lines(path) == []


def test_where_nothing_can_be_written_it_says_so_and_goes_on(tmp_path):
    (tmp_path / "file").write_text("")
    assert not append_line(tmp_path / "file" / "lines.jsonl", {"key": 1})


def _append_many(path, who):
    for number in range(50):
        append_line(path, {"who": who, "number": number, "filling": "x" * 5000})


def test_processes_that_add_at_the_same_time_leave_whole_lines(tmp_path):
    path = tmp_path / "lines.jsonl"
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=_append_many, args=(path, who)) for who in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    for who in range(4):
        assert [line["number"] for line in lines if line["who"] == who] == list(range(50))


@pytest.mark.parametrize(
    "environment, expected",
    [
        ({"HOME": "/home/li"}, "/home/li/.cache/deblurkit/trials"),
        ({"HOME": "/home/li", "XDG_CACHE_HOME": "/scratch/li"}, "/scratch/li/deblurkit/trials"),
        ({"HOME": "/home/li", "XDG_CACHE_HOME": "relative"}, "/home/li/.cache/deblurkit/trials"),
        ({"HOME": "/home/li", "XDG_CACHE_HOME": ""}, "/home/li/.cache/deblurkit/trials"),
    ],
)
def test_results_are_kept_where_the_user_keeps_caches(environment, expected):
    assert str(kept_folder("trials", environment=environment)) == expected
