import pytest

from deblurkit.tuning.overheads import MemoryRow
from deblurkit.tuning.shared_states import as_shared, with_shared_states
from deblurkit.tuning.step_memory import STATES, VALIDATION, StepMemory


@pytest.fixture
def step():
    held = (MemoryRow(STATES, 1001, "by hand"), MemoryRow("parameters", 500, "by hand"))
    phases = {"backward": 1501, VALIDATION: 2000}
    return StepMemory("cuda", "by hand", (1, 5, 3, 64, 64), held, held, phases, ())


def test_shared_states_are_taken_off_every_phase(step):
    shared = with_shared_states(step, 4)
    assert shared.phases == {"backward": 500 + 251, VALIDATION: 2000 - 750}
    assert (shared.step_peak_bytes, shared.after_forward_bytes) == (751, 751)


@pytest.mark.parametrize(
    ("parallel", "ranks", "states"), [("fsdp", 4, 251), ("fsdp", 1, 1001), ("ddp", 4, 1001)]
)
def test_ranks_share_where_that_is_set_and_there_are_several(step, tiny_config, parallel, ranks, states):
    found = as_shared(step, tiny_config(f"TRAIN.PARALLEL={parallel}"), ranks=ranks)
    assert found.rows[0].bytes == states
