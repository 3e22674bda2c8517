import torch

from deblurkit.models.padding import pad_to_multiple


def test_the_last_row_and_column_are_repeated():
    """The indices of a 3 x 5 frame in a 4 x 8 one, written out."""
    clip = torch.rand(2, 3, 1, 3, 5)
    rows, columns = torch.tensor([0, 1, 2, 2]), torch.tensor([0, 1, 2, 3, 4, 4, 4, 4])
    assert torch.equal(pad_to_multiple(clip, 4), clip[..., rows[:, None], columns])


def test_a_clip_that_divides_is_returned_as_it_is():
    clip = torch.rand(1, 2, 3, 8, 16)
    assert pad_to_multiple(clip, 8) is clip
