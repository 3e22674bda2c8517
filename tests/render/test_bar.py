import sys

from deblurkit.render.bar import progress_bar


def test_without_a_terminal_nothing_is_drawn(capsys):
    with progress_bar("frames") as progress:
        progress(1, 2)
    assert capsys.readouterr().err == ""


def test_on_a_terminal_the_count_is_shown(capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with progress_bar("frames") as progress:
        progress(1, 2)
    assert "frames" in capsys.readouterr().err
