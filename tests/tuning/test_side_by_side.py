"""Children with functions of the standard library in the place of a prediction: these can be sent to them."""

import multiprocessing
import signal
import time
from functools import partial

import pytest

from deblurkit.config.load import load_config
from deblurkit.tuning.memory_changes import changes_for
from deblurkit.tuning.side_by_side import PROCESS_BYTES, SideBySide, processes_for
from deblurkit.tuning.step_memory import predict_step


def test_predictions_are_what_the_predictor_says_in_any_order():
    with SideBySide(dict, processes=2) as predict:
        asked = [({"number": number}, {"world_size": 2}) for number in range(5)]
        predict.begin(asked)
        for number in (3, 0, 4, 7):
            assert predict({"number": number}, world_size=2) == {"number": number, "world_size": 2}
    assert multiprocessing.active_children() == []


def test_what_a_prediction_raises_is_raised_where_it_is_asked_for():
    with SideBySide(int, processes=2) as predict:
        predict.begin([("many", {}), ("7", {})])
        assert predict("7") == 7
        with pytest.raises(ValueError, match="many"):
            predict("many")


def test_what_nobody_waits_for_any_more_is_ended():
    with pytest.raises(KeyboardInterrupt), SideBySide(time.sleep, processes=2) as predict:
        predict.begin([(10_000, {}), (0.001, {}), (20_000, {}), (30_000, {})])
        predict(0.001)
        raise KeyboardInterrupt
    assert multiprocessing.active_children() == []


def test_where_a_child_was_killed_the_parent_predicts():
    with SideBySide(time.sleep, processes=1) as predict:
        predict.begin([(10_000, {})])
        (child,) = multiprocessing.active_children()  # no other test leaves one behind
        child.kill()
        child.join()
        assert predict(0.001) is None


def test_ctrl_c_is_held_back_from_children_from_their_first_moment_on():
    """Before they have imported anything: what a process is started with holds in all it does."""
    with SideBySide(partial(signal.pthread_sigmask, signal.SIG_BLOCK), processes=1) as predict:
        assert signal.SIGINT in predict(())
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, ())


@pytest.mark.parametrize(
    ("cpus", "available", "expected"),
    [(1, None, 1), (4, None, 4), (128, None, 8), (16, 3 * PROCESS_BYTES, 3), (16, PROCESS_BYTES // 2, 1)],
)
def test_cores_and_memory_bound_the_processes(cpus, available, expected):
    assert processes_for(cpus=cpus, available_bytes=available) == expected


def test_changes_are_the_same_as_one_after_the_other():
    chosen = ["TRAIN.DEVICE=cpu", "DATA.NUM_VOXEL_BINS=2", "DATA.CLIP_LEN=4", "DATA.CROP_SIZE=64"]
    config = load_config("quickstart", None, chosen, warn=lambda text: None)
    now = predict_step(config)
    about = {"step": now, "host": None, "resource": "device", "available_bytes": now.total_bytes // 4}
    with SideBySide(predict_step, processes=2) as predict:
        told = []
        ahead = changes_for(config, predict=predict, on_progress=lambda *counts: told.append(counts), **about)
    assert ahead == changes_for(config, **about)
    assert len(ahead) >= 3 and told == sorted(told) and told[-1][0] == told[-1][1]
