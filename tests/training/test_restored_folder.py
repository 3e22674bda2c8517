import signal
import subprocess
import sys

import cv2
import numpy as np
import pytest

from deblurkit.data.inputs import open_input
from deblurkit.errors import DataError, DeblurkitError
from deblurkit.training.restored_folder import RECORD, VIDEO, begin, record_of, write_video
from deblurkit.training.tiling import Tile

ASKED = {"INPUT": "a", "--tile": Tile(1, 2, 3)}


def test_a_folder_that_is_free_has_no_record(tmp_path):
    assert record_of(tmp_path / "new", ASKED) is None
    assert record_of(tmp_path, ASKED) is None


def test_the_same_work_finds_its_record_and_leaves_it(tmp_path):
    begin(tmp_path, {**ASKED, "tile": Tile(4, 5, 6)})
    before = (tmp_path / RECORD).read_text()
    found = record_of(tmp_path, ASKED)
    assert found["tile"] == [4, 5, 6]
    begin(tmp_path, {**ASKED, "tile": Tile(9, 9, 9)})
    assert (tmp_path / RECORD).read_text() == before


@pytest.mark.parametrize("content", [None, "[]", "no json", '{"INPUT": "a"}'])
def test_anything_else_in_it_is_refused(tmp_path, content):
    (tmp_path / "photo.png").write_bytes(b"x")
    if content is not None:
        (tmp_path / RECORD).write_text(content)
    with pytest.raises(DeblurkitError, match="is not empty .*photo.png.* nothing is overwritten"):
        record_of(tmp_path, ASKED)


UNFINISHED = [
    ".restore.json.abcd1234.partial",
    ".000001.png.x_y0z9ab.partial",
    ".restored.mp4.abcdefgh.partial",
]


def test_what_a_kill_has_left_makes_no_folder_full_and_is_removed(tmp_path):
    for name in UNFINISHED:
        (tmp_path / name).write_bytes(b"half")
    assert record_of(tmp_path, ASKED) is None
    begin(tmp_path, ASKED)
    assert [path.name for path in tmp_path.iterdir()] == [RECORD]
    (tmp_path / UNFINISHED[1]).write_bytes(b"half")
    assert record_of(tmp_path, ASKED) is not None
    begin(tmp_path, ASKED)
    assert [path.name for path in tmp_path.iterdir()] == [RECORD]


def test_the_names_are_those_of_files_that_are_being_written(tmp_path):
    """SIGKILL, in a process of its own, in the middle of writing a record."""
    code = f"""
import os, signal
from pathlib import Path
from deblurkit.files import replaced_file
with replaced_file(Path({str(tmp_path / RECORD)!r})) as file:
    file.write(b"half")
    file.flush()
    os.kill(os.getpid(), signal.SIGKILL)
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -signal.SIGKILL
    assert len(list(tmp_path.iterdir())) == 1
    assert record_of(tmp_path, ASKED) is None
    begin(tmp_path, ASKED)
    assert [path.name for path in tmp_path.iterdir()] == [RECORD]


@pytest.mark.parametrize("name", ["notes.partial", ".mine.partial", ".photo.jpg.abcd1234.partial"])
def test_files_of_others_are_left_alone(tmp_path, name):
    (tmp_path / name).write_bytes(b"x")
    with pytest.raises(DeblurkitError, match="is not empty"):
        record_of(tmp_path, ASKED)
    begin(tmp_path, ASKED)
    assert (tmp_path / name).exists()


def test_other_work_and_a_file_are_refused(tmp_path):
    begin(tmp_path / "out", ASKED)
    with pytest.raises(DeblurkitError, match=r'other work \(INPUT: "a" then, "b" now\)'):
        record_of(tmp_path / "out", {**ASKED, "INPUT": "b"})
    (tmp_path / "file").write_text("x")
    with pytest.raises(DeblurkitError, match="file: is a file, a folder expected"):
        record_of(tmp_path / "file", ASKED)


@pytest.mark.parametrize("size", [(32, 48), (33, 47)])
def test_a_video_holds_the_pictures_whatever_their_size(tmp_path, size):
    av = pytest.importorskip("av")
    for number in range(3):
        cv2.imwrite(str(tmp_path / f"{number}.png"), np.full((*size, 3), 60 * number, np.uint8))
    path = write_video(tmp_path, open_input(tmp_path))
    assert path == tmp_path / VIDEO
    with av.open(str(path)) as container:
        decoded = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert [frame.shape for frame in decoded] == [(*size, 3)] * 3
    assert [round(float(frame.mean())) for frame in decoded] == pytest.approx([0, 60, 120], abs=3)


def test_a_video_without_pyav_says_what_to_install(tmp_path, monkeypatch):
    cv2.imwrite(str(tmp_path / "0.png"), np.zeros((32, 32, 3), np.uint8))
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(DataError, match=r"--video needs PyAV: pip install 'deblurkit\[video\]'"):
        write_video(tmp_path, open_input(tmp_path))
    assert not (tmp_path / VIDEO).exists()
