import sys

from deblurkit.render.bar import progress_bar, progress_bars


def test_without_a_terminal_nothing_is_drawn(capsys):
    with progress_bar("frames") as progress:
        progress(1, 2)
    assert capsys.readouterr().err == ""


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
