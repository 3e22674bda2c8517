import os
import stat

import pytest

from deblurkit.files import give_second_name, replaced_file, write_image, write_text


def test_an_error_leaves_the_old_file_and_nothing_beside_it(tmp_path):
    path = tmp_path / "summary.json"
    path.write_text("old")
    with pytest.raises(RuntimeError), replaced_file(path) as file:
        file.write(b"half of the n")
        raise RuntimeError
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["summary.json"]


def test_the_old_content_stays_until_the_block_has_ended(tmp_path):
    path = tmp_path / "a" / "b.txt"
    write_text(path, "old")
    with replaced_file(path) as file:
        file.write("新".encode())
        file.flush()
        assert path.read_text() == "old"
    assert path.read_text(encoding="utf-8") == "新"


def test_a_written_file_has_the_permissions_that_the_umask_leaves(tmp_path):
    before = os.umask(0o027)
    try:
        write_text(tmp_path / "x", "")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "x").stat().st_mode) == 0o640


def test_an_image_comes_back_with_its_colours(tmp_path):
    import cv2
    import numpy as np

    image = np.zeros((4, 5, 3), dtype=np.uint8)
    image[..., 0] = 200  # red
    write_image(tmp_path / "x.png", image)
    assert cv2.imread(str(tmp_path / "x.png"))[0, 0].tolist() == [0, 0, 200]  # OpenCV reads BGR


def test_a_second_name_takes_the_place_of_the_old_file_in_one_piece(tmp_path):
    first, second, name = tmp_path / "1.pt", tmp_path / "2.pt", tmp_path / "best.pt"
    first.write_text("first")
    second.write_text("second")
    give_second_name(first, name)
    give_second_name(second, name)
    give_second_name(second, name)
    second.unlink()
    assert name.read_text() == "second"
    assert sorted(os.listdir(tmp_path)) == ["1.pt", "best.pt"]
