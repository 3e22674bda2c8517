from types import SimpleNamespace

from deblurkit.data.clips import EvaluationPart
from deblurkit.training.distributed import Ranks
from deblurkit.training.shares import frames_given, share_of


def clips(*bounds, sequences=3):
    """Parts of ``sequences`` sequences, each with the same (start, stop, keep_from)."""
    return SimpleNamespace(
        parts=[EvaluationPart(which, *part) for which in range(sequences) for part in bounds]
    )


FOLLOWING = clips((0, 2, 0), (2, 4, 2), (4, 6, 4), (5, 7, 6))  # of seven frames; the last one reaches back
BLENDED = clips((0, 3, 0), (2, 5, 2), (4, 7, 4))


def alone(found):
    return [[index] for index in range(len(found.parts))]


def test_shares_are_runs_of_whole_batches_of_about_as_many_frames():
    batches = alone(FOLLOWING)
    shares = [share_of(FOLLOWING, batches, Ranks(rank, 4)) for rank in range(4)]
    assert sum((share.batches for share in shares), []) == batches
    frames = [
        sum(FOLLOWING.parts[i].stop - FOLLOWING.parts[i].keep_from for i in share.owned) for share in shares
    ]
    assert sum(frames) == 21 and max(frames) - min(frames) <= 2
    assert share_of(FOLLOWING, batches[:1], Ranks(0, 3)).batches == []  # its middle is the second rank's


def test_a_run_in_the_middle_of_a_sequence_begins_with_the_window_that_reaches_into_it():
    second = share_of(BLENDED, alone(BLENDED), Ranks(1, 2))
    assert (second.batches[0], min(second.owned)) == ([3], 4)


def test_a_part_gives_the_frames_up_to_the_next_one_of_its_sequence():
    assert [frames_given(FOLLOWING.parts, index) for index in range(5)] == [2, 2, 2, 1, 2]
    assert [frames_given(BLENDED.parts, index) for index in range(4)] == [2, 2, 3, 2]
    assert sum(frames_given(BLENDED.parts, index) for index in range(9)) == 3 * 7
    apart = clips((0, 2, 0), (3, 5, 3), sequences=1)  # a gap is no frame of the one before
    assert [frames_given(apart.parts, index) for index in range(2)] == [2, 2]
