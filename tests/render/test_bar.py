import sys

from deblurkit.render.bar import progress_bar, progress_bars


def test_without_a_terminal_nothing_is_drawn(capsys):
    with progress_bar("frames") as progress:
        progress(1, 2)
    assert capsys.readouterr().err == ""


def test_without_a_terminal_long_work_has_a_line_every_half_minute(capsys):
    now = 0.0
    with progress_bars(clock=lambda: now) as progress:
        for done in range(11):
            progress("frames", 20 + done, 1030)  # 20 were done before
            now += 10.0
        progress("trials", 0, None)
        now += 20.0
        progress("trials", 1, 4)
    assert capsys.readouterr().err.splitlines() == [
        "frames: 23 of 1,030, 2 h 47 min left",  # 1,007 at 10 s each
        "frames: 26 of 1,030, 2 h 47 min left",
        "frames: 29 of 1,030, 2 h 46 min left",
        "trials: 1 of 4, 1 min 00 s left",
    ]


def test_on_a_terminal_the_count_is_shown(capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with progress_bar("frames") as progress:
        progress(1, 2)
    assert "frames" in capsys.readouterr().err


def test_each_kind_of_work_has_a_bar_of_its_own(capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with progress_bars() as progress:
        progress("memory", 1, 2)
        progress("trials", 1, 10)
        progress("memory", 2, 2)
    shown = capsys.readouterr().err
    assert "memory" in shown and "2/2" in shown and "trials" in shown and "1/10" in shown
