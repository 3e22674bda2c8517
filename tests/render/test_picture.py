import numpy as np

from deblurkit.render.picture import BAND, before_and_after
from deblurkit.training.validate import FramePair


def test_three_frames_stand_side_by_side_enlarged_by_a_whole_factor():
    frames = [np.full((10, 80, 3), value, np.uint8) for value in (50, 100, 150)]
    picture = before_and_after(FramePair("s", 0, *frames))
    assert picture.shape == (BAND + 40, 3 * 320 + 2 * 6, 3)
    assert [picture[-1, column, 0] for column in (0, 330, 660)] == [50, 100, 150]
    assert (picture[:BAND, :320] == 0).any()  # the caption
