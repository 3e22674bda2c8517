import gc
import time

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn

from deblurkit.analysis.ranks import by_rank, find_straggler
from deblurkit.analysis.readers import read_log
from deblurkit.timing.communication import CommunicationReader
from deblurkit.timing.logger import TimingLogger, scope, set_global_timing_logger


class Counting:
    """What DistributedDataParallel says of itself, in nanoseconds."""

    def __init__(self, **changes):
        self.counters = {
            "iteration": 3,
            "forward_compute_time": 5_000_000,
            "backward_compute_time": 40_000_000,
            "backward_comm_time": 30_000_000,
            "backward_compute_comm_overlap_time": 12_000_000,
        } | changes

    def _get_ddp_logging_data(self):
        return self.counters


def test_exposed_communication_is_what_nothing_is_computed_beside():
    found = CommunicationReader(Counting).read()
    assert (found.forward_ms, found.backward_ms, found.communication_ms) == (5, 40, 30)
    assert found.overlap_ms == 12 and found.exposed_ms == 18


def test_an_iteration_is_read_once():
    model = Counting()
    reader = CommunicationReader(lambda: model)
    assert reader.read().iteration == 3
    assert reader.read() is None
    model.counters["iteration"] = 103
    assert reader.read().iteration == 103


@pytest.mark.parametrize(
    "model", [nn.Linear(1, 1), Counting(iteration="none"), Counting(backward_comm_time=None)]
)
def test_what_has_no_counters_has_no_communication(model):
    reader = CommunicationReader(lambda: model)
    assert reader.read() is None and reader.read() is None


class Late(nn.Linear):
    """A layer that takes its time on one rank."""

    def __init__(self, delay):
        super().__init__(64, 64)
        self.delay = delay

    def forward(self, x):
        time.sleep(self.delay)
        return super().forward(x)


def train(rank, folder, delay):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    take_steps(rank, folder, delay)
    gc.collect()  # DDP's threads end with it, before the group does
    dist.barrier()
    dist.destroy_process_group()


def take_steps(rank, folder, delay):
    layers = nn.Sequential(nn.Linear(64, 64), Late(delay * rank), nn.Linear(64, 64))
    model = nn.parallel.DistributedDataParallel(layers)
    reader = CommunicationReader(lambda: model)
    logger = TimingLogger(f"{folder}/logs", enable_console=False, rank=rank, world_size=2)
    set_global_timing_logger(logger)
    for _ in range(10):
        with scope("forward"):
            out = model(torch.randn(8, 64)).sum()
        with scope("backward"):
            out.backward()
        found = reader.read()
        if found is not None:
            logger.log("backward/all_reduce", found.exposed_ms)
        logger.step()
    logger.close()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("delay", [0.1, pytest.param(0.02, marks=pytest.mark.slow)])
def test_of_two_ranks_the_delayed_one_is_named_and_the_other_waits(tmp_path, delay):
    """A sleep in the forward pass of rank 1, many times what the rest of a step takes."""
    mp.spawn(train, (str(tmp_path), delay), nprocs=2)
    (ranks,) = by_rank(map(read_log, tmp_path.glob("logs/*.jsonl"))).values()
    found = find_straggler(ranks)
    assert (found.rank, found.phase) == (1, "forward")
    assert found.phase_gap_ms >= 1e3 * delay * 0.7 and found.waiting_ms >= 1e3 * delay * 0.7
    assert ranks[1]["backward/all_reduce"].median() < ranks[0]["backward/all_reduce"].median() / 2
