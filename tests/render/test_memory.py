import pytest
from rich.cells import cell_len

from deblurkit.render.memory import WIDTH, memory_as_text, moment
from deblurkit.tuning.memory_report import MemoryReport


def test_the_parts_come_in_the_order_in_which_they_are_needed(server, run, past):
    text = memory_as_text(MemoryReport(server, run, past))
    titles = [
        "gpu01, ",
        "The run in outputs/vrt: killed, process 4711, on gpu01, began ",
        "What this run will take: vrt, clips ",
        "A training step on a GPU",
        "On the host",
        "What frees most",
        "What this machine gives",
        "Who holds most",
        "Not seen",
    ]
    places = [text.index(title) for title in titles]
    assert places == sorted(places)
    assert max(map(cell_len, text.splitlines())) <= WIDTH


def test_why_a_run_has_ended(server, past):
    text = memory_as_text(MemoryReport(server, past=past))
    assert "  certain: the control group /job was at its limit [/dev/kmsg]\n" in text
    assert "    内存 warning: 95 % [2J\n" in text  # what would clear the screen is gone
    assert "not seen: dmesg: root sees it" in text
    assert "deblurkit diagnose-memory --config outputs/vrt/config.yaml" in text


@pytest.mark.parametrize("look", ["server", "bare"])
def test_without_a_configuration_nothing_is_predicted(look, request):
    text = memory_as_text(MemoryReport(request.getfixturevalue(look)))
    assert "verdict" not in text and "What this machine gives" in text


def test_a_moment_is_in_local_time(monkeypatch):
    monkeypatch.setenv("TZ", "Asia/Shanghai")
    __import__("time").tzset()
    try:
        assert moment(1_700_000_000.0) == "2023-11-15 06:13:20"
    finally:
        monkeypatch.delenv("TZ")
        __import__("time").tzset()
