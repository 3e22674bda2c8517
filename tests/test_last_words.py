import json

from deblurkit import last_words
from deblurkit.cli import app
from deblurkit.errors import DataError, LostPeer
from deblurkit.last_words import LastWords


def test_words_are_read_as_they_were_left(tmp_path, monkeypatch):
    path = tmp_path / "words.json"
    monkeypatch.setenv(last_words.PATH, str(path))
    assert last_words.leave(DataError("帧 7 missing"))
    assert last_words.read(path) == LastWords("帧 7 missing", 1, is_lost_peer=False)
    assert last_words.leave(LostPeer("gone"))
    assert last_words.read(path) == LastWords("gone", 1, is_lost_peer=True)


def test_without_a_reader_nothing_is_left(monkeypatch):
    monkeypatch.delenv(last_words.PATH, raising=False)
    assert not last_words.leave(DataError("x"))


def test_what_cannot_be_read_is_nothing(tmp_path):
    assert last_words.read(tmp_path / "missing") is None
    for text in ("", "[]", '{"message": "x"}', json.dumps({"message": "x", "exit_code": "y"})):
        (tmp_path / "words").write_text(text)
        assert last_words.read(tmp_path / "words") is None


def test_the_command_line_leaves_its_error_instead_of_printing_it(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv(last_words.PATH, str(tmp_path / "words"))
    assert app.run(["check-data", str(tmp_path / "nothing")]) == 1
    assert capsys.readouterr().err == ""
    words = last_words.read(tmp_path / "words")
    assert words is not None and str(tmp_path / "nothing") in words.message and words.exit_code == 1
