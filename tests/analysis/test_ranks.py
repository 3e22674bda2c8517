import numpy as np
import pandas as pd
import pytest

from deblurkit.analysis.ranks import find_straggler

STEPS = range(1, 13)


def rank(forward=100.0, backward=200.0, data=2.0, waiting=1.0, wall=None):
    """A table of steps that are all alike."""
    wall = forward + backward + data + 8 if wall is None else wall
    row = {
        "wall_ms": wall,
        "forward": forward,
        "backward": backward,
        "data": data,
        "backward/all_reduce": waiting,
    }
    return pd.DataFrame([row] * len(STEPS), index=pd.Index(STEPS, name="step"))


def test_the_slow_rank_is_named_with_its_phase_and_what_the_others_wait():
    """Rank 1 takes 60 ms more in its forward pass; the others have these 60 ms in their backward passes."""
    others = rank(backward=260, waiting=61, wall=370)
    found = find_straggler({0: others, 1: rank(forward=160, wall=370), 2: others})
    assert (found.rank, found.phase) == (1, "forward")
    assert found.busy_ms == pytest.approx(369) and found.typical_ms == pytest.approx(309)
    assert found.phase_gap_ms == pytest.approx(60) and found.waiting_ms == pytest.approx(61)
    assert found.share == pytest.approx(60 / 370) and not found.is_critical
    assert found.as_line().startswith("rank 1 is the slowest: 369 ms of work a step against 309 ms")


def test_a_rank_that_waits_for_data_is_named_for_that():
    other = rank(backward=320, waiting=121, wall=430)
    found = find_straggler({0: other, 1: rank(data=122, wall=430)})
    assert (found.rank, found.phase) == (1, "data") and found.is_critical


def test_ranks_that_are_alike_have_no_straggler():
    assert find_straggler({0: rank(), 1: rank(forward=105, wall=315)}) is None


@pytest.mark.parametrize(
    "ranks",
    [
        {},
        {0: rank()},
        {0: rank(), 1: rank(forward=900).drop(columns="backward/all_reduce")},
        {0: rank().iloc[:4], 1: rank(forward=900)},
        {0: rank(), 1: rank(forward=900).assign(**{"backward/all_reduce": np.nan})},
    ],
)
def test_with_too_little_known_nothing_is_said(ranks):
    assert find_straggler(ranks) is None


def test_a_chinese_log_is_read_alike():
    chinese = {"forward": "前向传播总耗时", "backward": "反向传播总耗时", "data": "数据加载"}
    chinese["backward/all_reduce"] = "反向传播总耗时/all_reduce"
    others = rank(backward=260, waiting=61, wall=370).rename(columns=chinese)
    found = find_straggler({0: others, 1: rank(forward=160, wall=370).rename(columns=chinese), 2: others})
    assert (found.rank, found.phase) == (1, "forward")


def untold(**phases):
    """Thirty steps of a rank that does not tell how long it waits."""
    row = {"forward": 100.0, "backward": 200.0, "data": 2.0} | phases
    row = {"wall_ms": sum(row.values())} | row if "wall_ms" not in row else row
    return pd.DataFrame([row] * 30, index=pd.Index(range(1, 31), name="step"))


def test_a_backward_pass_that_is_longer_than_the_shortest_one_waits_for_it():
    found = find_straggler({0: untold(backward=260.0), 1: untold(forward=160.0), 2: untold(backward=260.0)})
    # by hand: all steps take 362 ms; rank 1 works for all of it, the others wait for 60
    assert (found.rank, found.phase) == (1, "forward")
    assert (found.busy_ms, found.typical_ms, found.waiting_ms) == (362, 302, 60)
    assert found.share == pytest.approx(60 / 362)


def test_ranks_that_do_not_keep_step_are_told_apart_by_their_own_steps():
    found = find_straggler({0: untold(), 1: untold(), 2: untold(data=92.0)})
    assert (found.rank, found.phase, found.waiting_ms) == (2, "data", 0)
    assert found.share == pytest.approx(90 / 302)
    assert "wait up to" not in found.as_line()


def test_untold_ranks_need_more_steps_and_a_backward_pass():
    tables = {0: untold(), 1: untold(data=92.0)}
    assert find_straggler({rank: table.iloc[:19] for rank, table in tables.items()}) is None
    assert find_straggler({rank: table.drop(columns="backward") for rank, table in tables.items()}) is None
