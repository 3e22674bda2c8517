import hashlib
import struct
import zlib

import cv2
import numpy as np
import pytest

from deblurkit.data.checks.files import (
    check_checksums,
    check_files,
    check_sizes,
    picture_fault,
    png_ends,
    png_whole,
    recording_fault,
)
from deblurkit.data.layouts.source import SourceExposure, SourceSequence
from deblurkit.data.manifest import FileRecord
from deblurkit.data.spikes import SpikeGeometry

GEOMETRY = SpikeGeometry(8, 16)  # 16 bytes a frame


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / "a.png"
    cv2.imwrite(str(path), np.random.default_rng(0).integers(0, 256, (32, 48, 3), dtype=np.uint8))
    return path


def flip_byte(path, place):
    data = bytearray(path.read_bytes())
    data[place] ^= 255
    path.write_bytes(data)


def test_a_whole_picture_has_no_fault(picture):
    assert picture_fault(picture, png_whole) is None
    assert picture_fault(picture, png_ends) is None


def test_chunks_of_a_png_written_by_hand_are_followed(tmp_path):
    """Against the PNG specification: length, type, content, CRC-32 of type and content."""

    def chunk(name, content):
        return (
            struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
        )

    head = struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0)
    parts = [chunk(b"IHDR", head), chunk(b"IDAT", zlib.compress(b"\0\7")), chunk(b"IEND", b"")]
    path = tmp_path / "a.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))
    assert picture_fault(path, png_whole) is None
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts[:2]))
    assert picture_fault(path, png_whole)[0] == "truncated"


@pytest.mark.parametrize("look", [png_ends, png_whole])
@pytest.mark.parametrize("kept", [0, 5, 20, 200, -1])
def test_a_cut_picture_is_truncated(picture, look, kept):
    picture.write_bytes(picture.read_bytes()[:kept])
    assert picture_fault(picture, look)[0] == ("unreadable" if kept == 5 else "truncated")


def test_a_byte_that_changed_inside_is_seen_by_the_thorough_look_only(picture):
    flip_byte(picture, 500)
    assert picture_fault(picture, png_ends) is None
    kind, what = picture_fault(picture, png_whole)
    assert kind == "unreadable" and "at byte 33" in what  # IHDR ends there


def test_what_is_no_picture_is_unreadable(tmp_path):
    (tmp_path / "a.png").write_text("<html>404</html>")
    (tmp_path / "folder.png").mkdir()
    assert picture_fault(tmp_path / "a.png", png_whole)[0] == "unreadable"
    assert picture_fault(tmp_path / "folder.png", png_whole)[0] == "unreadable"
    assert picture_fault(tmp_path / "none.png", png_whole)[0] == "missing"


@pytest.mark.parametrize(
    ("size", "kind"), [(0, "truncated"), (47, "truncated"), (48, "truncated"), (64, None), (80, None)]
)
def test_a_recording_is_whole_frames_and_enough(tmp_path, size, kind):
    (tmp_path / "a.dat").write_bytes(bytes(size))
    fault = recording_fault(tmp_path / "a.dat", GEOMETRY, needed=4)
    assert (fault and fault[0]) == kind


def sequence(folder, *, recording_frames=4, stems=("0", "1", "2")):
    for kind in ("blur", "sharp", "spike"):
        (folder / kind).mkdir()
    for stem in stems:
        for kind in ("blur", "sharp"):
            cv2.imwrite(str(folder / kind / f"{stem}.png"), np.zeros((16, 32, 3), np.uint8))
        (folder / "spike" / f"{stem}.dat").write_bytes(bytes(64))
    exposures = tuple(
        SourceExposure(s, folder / f"blur/{s}.png", folder / f"sharp/{s}.png", folder / f"spike/{s}.dat", 0)
        for s in stems
    )
    return SourceSequence("train", "a", exposures, 4, None, GEOMETRY, recording_frames)


def kinds(found):
    return [(problem.path.name, problem.kind) for problem in found.problems]


def test_a_whole_sequence_has_no_problem(tmp_path):
    found = check_files(sequence(tmp_path), frame_shape=None, quick=False)
    assert (found.problems, found.bad, found.frame_shape) == ((), frozenset(), (16, 32))


def test_a_frame_that_only_one_folder_has_is_missing_in_the_other(tmp_path):
    whole = sequence(tmp_path)
    cv2.imwrite(str(tmp_path / "sharp" / "9.png"), np.zeros((16, 32, 3), np.uint8))
    (problem,) = check_files(whole, frame_shape=None, quick=False).problems
    assert problem.path == tmp_path / "blur" / "9.png" and problem.kind == "missing"


def test_sizes_are_compared_with_most_or_with_what_is_given(tmp_path):
    whole = sequence(tmp_path)
    cv2.imwrite(str(tmp_path / "sharp" / "1.png"), np.zeros((16, 40, 3), np.uint8))
    assert kinds(check_files(whole, frame_shape=None, quick=True)) == [("1.png", "wrong-size")]
    assert len(kinds(check_files(whole, frame_shape=(16, 40), quick=True))) == 5


def test_a_recording_longer_than_promised_is_a_count(tmp_path):
    whole = sequence(tmp_path)
    (tmp_path / "spike" / "1.dat").write_bytes(bytes(80))
    found = check_files(whole, frame_shape=None, quick=False)
    assert kinds(found) == [("1.dat", "count")]


def test_the_manifest_s_sizes_and_checksums_are_compared(tmp_path):
    names = ("whole", "changed", "short", "long", "gone")
    record = FileRecord(bytes=5, sha256=hashlib.sha256(b"12345").hexdigest())
    for name, content in zip(names, (b"12345", b"12346", b"1234", b"123456"), strict=False):
        (tmp_path / name).write_bytes(content)
    files = {tmp_path / name: record for name in names}

    def of(found):
        return {(problem.path.name, problem.kind) for problem in found}

    by_size = {("short", "truncated"), ("long", "checksum"), ("gone", "missing")}
    assert of(check_sizes(files, skip=frozenset())) == by_size
    assert of(check_checksums(files, skip=frozenset())) == by_size | {("changed", "checksum")}
    assert of(check_checksums(files, skip=frozenset(files))) == set()
