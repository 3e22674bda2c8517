import os
import weakref

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from deblurkit.config.schema import Config
from deblurkit.data.loaders import BatchStream
from deblurkit.memory.gpu import Holder
from deblurkit.training.out_of_memory import (
    Request,
    explain,
    forget,
    halved,
    is_out_of_memory,
    read_request,
    remedies,
    validation_remedies,
)

CUDA, CPU = torch.device("cuda", 0), torch.device("cpu")
GIB, MIB = 2**30, 2**20

# Texts of real errors: torch 2.5 and later, 2.1, and 1.8 (from public issue threads), and this machine's CPU.
NEW = (
    "CUDA out of memory. Tried to allocate 22.78 GiB. GPU 0 has a total capacity of 31.47 GiB of which"
    " 12.73 GiB is free. Including non-PyTorch memory, this process has 18.73 GiB memory in use. Of the"
    " allocated memory"
    " 9.08 GiB is allocated by PyTorch, and 9.35 GiB is reserved by PyTorch but unallocated. If reserved but"
    " unallocated memory is large try setting PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True to avoid"
    " fragmentation.  See documentation for Memory Management"
)
SHARED = (
    "CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has a total capacity of 79.15 GiB of which"
    " 2.50 MiB is free. Process 4321 has 70.00 GiB memory in use. Including non-PyTorch memory, this process"
    " has 9.00 GiB memory in use. Of the allocated memory 8.00 GiB is allocated by PyTorch, and 100.00 MiB is"
    " reserved by PyTorch but unallocated."
)
MIDDLE = (
    "CUDA out of memory. Tried to allocate 27.12 GiB. GPU 0 has a total capacty of 11.99 GiB of which 0"
    " bytes is free. Of the allocated memory 16.16 GiB is allocated by PyTorch, and 144.59 MiB is reserved by"
    " PyTorch but unallocated."
)
OLD = (
    "CUDA out of memory. Tried to allocate 264.00 MiB (GPU 0; 2.00 GiB total capacity; 788.51 MiB already"
    " allocated; 145.93 MiB free; 1.02 GiB reserved in total by PyTorch)"
)
HOST = (
    "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to"
    " allocate 40000000000000 bytes. Error code 12 (Cannot allocate memory)"
)


def config(**values):
    return Config.model_validate(values)


@pytest.mark.parametrize(
    ("text", "asked", "free", "total", "unused"),
    [
        (NEW, 22.78 * GIB, 12.73 * GIB, 31.47 * GIB, 9.35 * GIB),
        (MIDDLE, 27.12 * GIB, 0, 11.99 * GIB, 144.59 * MIB),
        (OLD, 264 * MIB, 145.93 * MIB, 2 * GIB, None),
        (HOST, 40_000_000_000_000, None, None, None),
        ("CUDA error: out of memory", None, None, None, None),
        ("CUDA out of memory. Tried to allocate more than 1EB memory.", None, None, None, None),
    ],
)
def test_the_figures_are_read_in_every_wording(text, asked, free, total, unused):
    expected = [None if value is None else int(value) for value in (asked, free, total, unused)]
    assert read_request(text) == Request(*expected)


def test_memory_errors_are_told_from_others():
    with pytest.raises(RuntimeError) as real:
        torch.empty(10**13)
    assert is_out_of_memory(real.value)
    assert read_request(str(real.value)).asked == 4 * 10**13
    assert is_out_of_memory(torch.OutOfMemoryError(NEW))
    assert is_out_of_memory(MemoryError())
    assert is_out_of_memory(
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate`")
    )
    assert not is_out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    assert not is_out_of_memory(ValueError("out of memory"))


def test_an_explanation_says_what_was_asked_what_is_free_and_who_holds_it():
    mine, hers = Holder(os.getpid(), "me", 9 * GIB), Holder(4321, "alice", 70 * GIB)
    told = explain(torch.OutOfMemoryError(SHARED), config(), device=CUDA, processes=[hers, mine])
    assert told.splitlines()[:3] == [
        "memory of cuda:0 has run out: 20.0 MiB asked for, 2.5 MiB free, 79.15 GiB in all",
        "  held by process 4321 of alice 70.00 GiB, this process 9.00 GiB",
        "  70.00 GiB of it is others': take another GPU (CUDA_VISIBLE_DEVICES), or ask for it",
    ]


def test_without_the_driver_the_holders_are_those_that_the_error_names():
    told = explain(torch.OutOfMemoryError(SHARED), config(), device=CUDA, processes=[])
    assert "held by this process 9.00 GiB, process 4321 70.00 GiB" in told
    assert "held by" not in explain(torch.OutOfMemoryError(OLD), config(), device=CUDA, processes=[])


def test_much_that_is_reserved_and_unused_is_worth_a_word():
    assert "9.35 GiB is reserved" in explain(torch.OutOfMemoryError(NEW), config(), device=CUDA, processes=[])
    assert "reserved" not in explain(torch.OutOfMemoryError(MIDDLE), config(), device=CUDA, processes=[])


def test_of_three_settings_those_that_keep_the_result_come_first():
    values = config(
        TRAIN={"BATCH_SIZE": 4, "GRADIENT_ACCUMULATION_STEPS": 3},
        MODEL={"VRT": {"USE_CHECKPOINT_ATTN": [True] * 6 + [False] * 2}},
    )
    told = explain(torch.OutOfMemoryError(OLD), values, device=CUDA, processes=[]).splitlines()
    assert told[1:] == [
        "  settings that free memory (shares of what a step needs are estimates):",
        "    --set TRAIN.BATCH_SIZE=2 --set TRAIN.GRADIENT_ACCUMULATION_STEPS=6   about 50.0 %: same"
        " effective batch, smaller parts",
        "    --set MODEL.VRT.USE_CHECKPOINT_ATTN=true   about 12.5 %: same gradients; the backward pass"
        " computes attention again",
        "    --set DATA.CROP_SIZE=192   about 43.8 %: 192 px a side instead of 256; less context for"
        " the network",
        "  all of them together: about 75.4 %",  # 1 - 0.5 * 0.875 * 0.5625
        "  to have a run do so by itself: --set TRAIN.AUTO_HALVE_BATCH=true",
    ]


def told_to(world_size, **train):
    values = config(TRAIN={"BATCH_SIZE": 2, **train})
    told = explain(
        torch.OutOfMemoryError(OLD), values, device=CUDA, processes=[], world_size=world_size
    ).splitlines()
    return [line.strip() for line in told if "fsdp" in line or "AUTO_HALVE" in line]


def test_several_ranks_are_told_what_only_they_can_do():
    assert told_to(1) == ["to have a run do so by itself: --set TRAIN.AUTO_HALVE_BATCH=true"]
    assert told_to(1, AUTO_HALVE_BATCH=True) == []
    (share,) = told_to(4)
    assert "--set TRAIN.PARALLEL=fsdp it keeps 1/4 of them" in share
    assert told_to(4, AUTO_HALVE_BATCH=True) == [
        share,
        "TRAIN.AUTO_HALVE_BATCH is for one process, and several do without it",
    ]
    assert told_to(4, PARALLEL="fsdp") == []
    assert told_to(4, EMA_DECAY=0.9) == []  # does not go together with it


def test_what_is_on_already_is_not_proposed():
    everything = config(
        TRAIN={"BATCH_SIZE": 1, "AMP_ENABLED": True, "OPTIM": {"TYPE": "adamw8bit"}}, DATA={"CLIP_LEN": 3}
    )
    assert [list(remedy.settings) for remedy in remedies(everything)] == [["DATA.CROP_SIZE"]]
    # a window of 8 tokens needs 64 px at the coarsest scale, so 48 px is no valid configuration
    smallest = everything.model_copy(update={"data": everything.data.model_copy(update={"crop_size": 64})})
    assert remedies(smallest) == []
    assert "smaller network" in explain(torch.OutOfMemoryError(OLD), smallest, device=CUDA, processes=[])


def clips_proposed(**data):
    found = [remedy.settings for remedy in remedies(config(DATA=data))]
    return [settings for settings in found if all(key.startswith("DATA.") for key in settings)]


def test_sizes_that_training_grows_to_or_stays_with_are_the_ones_made_smaller():
    assert {"DATA.TRAIN_CROP_SIZE": 96} in clips_proposed(CROP_SIZE=256, TRAIN_CROP_SIZE=128)
    assert {"DATA.CROP_SIZE": 192} in clips_proposed(TRAIN_CROP_SIZE=[128, 160], TRAIN_CROP_EPOCHS=2)
    grown = {"DATA.CROP_SIZE": 192, "DATA.TRAIN_CROP_SIZE": [128, 192]}
    assert grown in clips_proposed(TRAIN_CROP_SIZE=[128, 224], TRAIN_CROP_EPOCHS=2)
    assert {"DATA.TRAIN_CLIP_LEN": 3} in clips_proposed(CLIP_LEN=9, TRAIN_CLIP_LEN=5)


def test_every_proposal_is_a_valid_configuration_by_itself():
    amp_off_by_level = config(TRAIN={"BATCH_SIZE": 3, "AMP_ENABLED": True, "AMP_OPT_LEVEL": "O0"})
    settings = {key: value for remedy in remedies(amp_off_by_level) for key, value in remedy.settings.items()}
    assert settings["TRAIN.BATCH_SIZE"] == 1
    assert settings["TRAIN.GRADIENT_ACCUMULATION_STEPS"] == 18  # 6 x 3: three clips become three parts
    assert settings["TRAIN.AMP_OPT_LEVEL"] == "O1"
    assert settings["TRAIN.OPTIM.TYPE"] == "adamw8bit"


def test_host_memory_is_explained_as_such_with_its_cache():
    values = config(DATA={"USE_RAM_CACHE": True, "CACHE_SIZE_GB": 50.0})
    told = explain(RuntimeError(HOST), values, device=CUDA)
    assert told.startswith("host memory has run out: 37252.90 GiB asked for")
    assert "--set DATA.USE_RAM_CACHE=false" in told
    assert explain(MemoryError(), values, device=CPU).startswith("host memory has run out\n")


def test_in_a_validation_tiles_and_its_own_batch_are_proposed():
    values = config(TRAIN={"VAL_BATCH_SIZE": 2, "BATCH_SIZE": 2})
    told = explain(
        torch.OutOfMemoryError(OLD), values, device=CUDA, processes=[], found=validation_remedies(values)
    )
    assert "--set TRAIN.VAL_BATCH_SIZE=1   about 50.0 %" in told
    assert "--set 'TEST.TILE=[256, 256]'   about 92.9 %" in told  # 1 - 256 * 256 / (720 * 1280)
    assert "TRAIN.BATCH_SIZE" not in told
    assert "AUTO_HALVE" not in told


def test_halving_keeps_the_effective_batch_and_all_else():
    before = config(TRAIN={"BATCH_SIZE": 4, "GRADIENT_ACCUMULATION_STEPS": 3, "OPTIM": {"LR": 1e-3}})
    after = halved(before)
    assert (after.train.batch_size, after.train.gradient_accumulation_steps) == (2, 6)
    put_back = {"batch_size": 4, "gradient_accumulation_steps": 3}
    assert after.model_copy(update={"train": after.train.model_copy(update=put_back)}) == before
    assert halved(halved(after)) is None  # 2 -> 1 -> none
    assert halved(config(TRAIN={"BATCH_SIZE": 3})) is None


def clips_of_steps(num_clips, *, batch_size, accumulation, steps, world_size=1):
    """Return the clips that all ranks together take in each step, as the run's stream gives them."""
    ranks = [
        list(
            BatchStream(
                num_clips,
                batch_size=batch_size,
                seed=7,
                first_batch=0,
                num_batches=steps * accumulation,
                rank=rank,
                world_size=world_size,
            )
        )
        for rank in range(world_size)
    ]
    parts = [slice(step * accumulation, (step + 1) * accumulation) for step in range(steps)]
    return [sorted(key for rank in ranks for batch in rank[part] for key in batch) for part in parts]


@given(
    half=st.integers(1, 3),
    accumulation=st.integers(1, 3),
    world_size=st.integers(1, 3),
    batches=st.integers(1, 4),
)
def test_a_step_of_halved_parts_takes_the_same_clips(half, accumulation, world_size, batches):
    """Over several epochs, where an epoch is a whole number of batches."""
    num_clips = 2 * half * world_size * batches
    whole = clips_of_steps(
        num_clips, batch_size=2 * half, accumulation=accumulation, steps=9, world_size=world_size
    )
    parts = clips_of_steps(
        num_clips, batch_size=half, accumulation=2 * accumulation, steps=9, world_size=world_size
    )
    assert parts == whole
    assert {len(step) for step in parts} == {2 * half * accumulation * world_size}


def test_where_an_epoch_does_not_fill_its_batches_only_the_first_one_is_cut_alike():
    whole = clips_of_steps(10, batch_size=4, accumulation=1, steps=4)
    parts = clips_of_steps(10, batch_size=2, accumulation=2, steps=4)
    assert parts[:2] == whole[:2]
    assert parts[2] != whole[2]  # two clips that a batch of 4 leaves out


def test_the_gradient_of_halved_parts_is_that_of_the_whole():
    torch.manual_seed(0)
    weights, clips = torch.randn(5, requires_grad=True), torch.randn(8, 5)

    def gradient(size):
        parts = clips.split(size)
        return sum(
            torch.autograd.grad((part @ weights).square().mean() / len(parts), weights)[0] for part in parts
        )

    np.testing.assert_allclose(gradient(4), gradient(2), rtol=1e-5)


def test_a_forgotten_error_holds_no_tensor_of_the_step():
    def step(references):
        tensor = torch.zeros(3)
        references.append(weakref.ref(tensor))
        raise torch.OutOfMemoryError(OLD)

    references = []
    try:
        step(references)
    except torch.OutOfMemoryError as caught:
        error = caught
    assert references[0]() is not None
    forget(error)
    assert references[0]() is None
