"""Why each fault happens and what helps: the texts and configuration keys of the rules."""

from __future__ import annotations

from deblurkit.analysis.findings import Avoidable, Remedy

_ALL = Avoidable(0.5, 1.0, 1.0, "all of this time saved; at the low end half of it")
_MAYBE = Avoidable(0.0, 0.5, 1.0, "half of it avoidable; from nothing to all of it is possible")
_FASTER_MATHS = Avoidable(
    0.30, 0.35, 0.40, "mixed precision takes 30 to 40 % off computing, by the older scripts' own measurements"
)

DATA = {
    "": Remedy(
        "The loader hands over batches more slowly than the step takes them: too few workers, a slow disk,"
        " or costly decoding.",
        "Raise the number of workers or of batches that each keeps ready, and keep the data on a fast local"
        " disk; cache decoded samples where the machine has memory to spare.",
        (
            "DATALOADER.TOTAL_WORKERS",
            "DATALOADER.TRAIN_PREFETCH_FACTOR=8",
            "DATALOADER.PIN_MEMORY=true",
            "DATA.USE_RAM_CACHE=true",
        ),
        _ALL,
    ),
    "busy-cpu": Remedy(
        "The loader's workers have no processor left to run on: more of them would not help.",
        "Take work off the workers: cache decoded samples, and make voxels on the GPU.",
        ("DATA.USE_RAM_CACHE=true", "DATA.VOXELS_ON=device", "DATALOADER.TOTAL_WORKERS"),
        _ALL,
    ),
}

COMPUTE = {
    "": Remedy(
        "The network itself takes the time; neither data nor the host holds it up.",
        "Turn on mixed precision if it is off, and compare the accuracy; then compile the network. After"
        " that only a smaller network helps: fewer blocks, a smaller window, larger chunks.",
        (
            "TRAIN.AMP_ENABLED=true",
            "TRAIN.COMPILE_MODEL=true",
            "MODEL.WINDOW_SIZE",
            "MODEL.VRT_DEPTHS",
            "MODEL.FUSE.MAX_BATCH_TOKENS=65536",
            "MODEL.FUSE.CHUNK_SIZE=96",
        ),
        _FASTER_MATHS,
    ),
}

RECOMPUTE = {
    "": Remedy(
        "Activations are not kept but computed again for the backward pass, which saves memory.",
        "Keep those of the feed-forward layers, then those of attention, as far as memory allows; an 8-bit"
        " optimiser or a smaller batch makes room.",
        (
            "MODEL.VRT.USE_CHECKPOINT_FFN=false",
            "MODEL.VRT.USE_CHECKPOINT_ATTN=false",
            "TRAIN.OPTIM.TYPE=adamw8bit",
            "TRAIN.BATCH_SIZE",
        ),
        Avoidable(0.5, 1.0, 1.0, "no recomputation at all; at the low end half of it stays"),
    ),
}

COMMUNICATION = {
    "": Remedy(
        "Gradients are exchanged when backward has ended, or the link between the GPUs is slow; or one rank"
        " is late and the others wait for it.",
        "Exchange less often by accumulating gradients over more micro-steps (with a smaller batch, if the"
        " effective batch is to stay), and hand over the logs of all ranks to see whether one is slow.",
        ("TRAIN.GRADIENT_ACCUMULATION_STEPS", "TRAIN.BATCH_SIZE", "TRAIN.PARALLEL=ddp"),
        Avoidable(0.3, 0.5, 1.0, "half of it, as with twice the micro-steps; from 0.3 to all of it"),
    ),
}

STRAGGLER = {
    "": Remedy(
        "In every step all ranks wait for the slowest one.",
        "Look at this GPU and its host: another program on it (`nvidia-smi`), a hot or throttled card"
        " (`nvidia-smi -q -d PERFORMANCE`), processors of the other socket.",
        ("DATALOADER.TOTAL_WORKERS",),
        _ALL,
    ),
    "data": Remedy(
        "In every step all ranks wait for this one, and it waits for its data.",
        "Give its loader more: workers, batches kept ready, a disk as fast as that of the others.",
        ("DATALOADER.TOTAL_WORKERS", "DATALOADER.TRAIN_PREFETCH_FACTOR=8"),
        _ALL,
    ),
}

UNACCOUNTED = {
    "": Remedy(
        "The program does something between the phases that it does not time.",
        "Time what is missing: put `timing.scope(...)` around validation, saving and logging; if a gap"
        " remains after each epoch, keep the workers from epoch to epoch.",
        ("DATALOADER.PERSISTENT_WORKERS=true", "LOG.TIMING_MODULE_DEPTH=2"),
        _MAYBE,
    ),
    "printed": Remedy(
        "The program prints a step's time without what lies between two steps: waiting for data, logging, or"
        " a device that was not waited for when the time was taken.",
        "Do not rely on the printed time: count steps by the clock, and let deblurkit's own timing log tell"
        " the phases apart.",
        ("LOG.ENABLE_TIMING_LOG=true", "LOG.TIMING_FILE=true"),
        _MAYBE,
    ),
}

STALL = {
    "": Remedy(
        "Something that is not part of every step held these up.",
        "Look at what happened at these steps: a checkpoint, a validation, another program on the server"
        " (`ps aux --sort=-%cpu`), memory that ran short (`free -h`).",
        ("LOG.SAVE_EVERY_STEPS", "LOG.VAL_EVERY_STEPS"),
        _ALL,
    ),
    "data": Remedy(
        "The loader ran dry: its workers had no batch ready.",
        "Let them keep more batches ready, raise their number, and see that an epoch does not begin with new"
        " workers.",
        (
            "DATALOADER.TRAIN_PREFETCH_FACTOR=8",
            "DATALOADER.TOTAL_WORKERS",
            "DATALOADER.PERSISTENT_WORKERS=true",
        ),
        _ALL,
    ),
    "all_reduce": Remedy(
        "One rank waited for another.",
        "Compare the .jsonl files of the ranks at these steps: `deblurkit analyze-log RUN_FOLDER`.",
        (),
        _ALL,
    ),
    "checkpoint": Remedy(
        "Saving a checkpoint holds the steps up.",
        "Save less often, or to a faster disk.",
        ("LOG.SAVE_EVERY_STEPS",),
        _ALL,
    ),
    "validation": Remedy(
        "Validating holds the steps up.",
        "Validate less often, and look at a few sequences in between.",
        ("LOG.VAL_EVERY_STEPS", "LOG.QUICK_VAL_EVERY_STEPS"),
        _ALL,
    ),
    "epoch": Remedy(
        "An epoch begins with new workers that have no batch ready.",
        "Keep the workers from epoch to epoch.",
        ("DATALOADER.PERSISTENT_WORKERS=true", "DATALOADER.TRAIN_PREFETCH_FACTOR=8"),
        _ALL,
    ),
}

HOST = {
    "": Remedy(
        "Python hands kernels to the GPU more slowly than it works them off, one by one.",
        "Let each launch do more: compile the network, or give a step more samples.",
        ("TRAIN.COMPILE_MODEL=true", "TRAIN.COMPILE_MODE=reduce-overhead", "TRAIN.BATCH_SIZE"),
        _ALL,
    ),
}

SYNC = {
    "": Remedy(
        "The host waits for the GPU within the step, and the GPU has nothing to do when the host goes on.",
        "Take out what waits: `.item()`, `.cpu()`, printing a loss, `torch.cuda.synchronize()`; copy with"
        " `non_blocking=True` from page-locked memory, and log every few steps only.",
        ("DATALOADER.PIN_MEMORY=true", "LOG.TIMING_CONSOLE_INTERVAL=50"),
        _ALL,
    ),
}

CACHE = {
    "": Remedy(
        "The cache is smaller than what is read before a sample comes again, so that samples are dropped"
        " unread.",
        "Give the cache more, up to half of the machine's memory; or read the clips of one sequence after"
        " another, so that a small cache is hit more.",
        ("DATA.CACHE_SIZE_GB", "DATALOADER.GROUP_BY_SEQUENCE=true"),
        Avoidable(0.0, 0.5, 1.0, "half of the wait for data; from none to all of it"),
    ),
}

CREEP = {
    "": Remedy(
        "Something keeps growing: a cache without a limit in every worker, a list of losses that hold their"
        " graph, or pages that forked workers copy one after another.",
        "Lower the number of workers and the size of the cache, and keep numbers instead of tensors"
        " (`loss.item()`); if memory still grows, restart the run from its checkpoint before it is full.",
        ("DATALOADER.TOTAL_WORKERS", "DATA.CACHE_SIZE_GB", "DATALOADER.TRAIN_PREFETCH_FACTOR=2"),
    ),
    "device": Remedy(
        "Tensors on the GPU are kept from step to step, or memory falls into pieces that fit nothing.",
        "Keep numbers instead of tensors (`loss.item()`, `.detach()`), and keep the sizes of batches and"
        " crops alike.",
        ("TRAIN.BATCH_SIZE", "DATALOADER.DROP_LAST=true"),
    ),
}

DIVERGENCE = {
    "": Remedy(
        "Steps became too large: the learning rate is too high for the batch, or gradients are not clipped.",
        "Go back to the last checkpoint before this step, lower the learning rate and clip the gradients.",
        ("TRAIN.OPTIM.LR", "TRAIN.MAX_GRAD_NORM=1.0", "TRAIN.SCHED.WARMUP_STEPS"),
    ),
    "nonfinite": Remedy(
        "A number left the range of its type, as float16 does at 65,504, or a step was too large.",
        "Take bfloat16 instead of float16, keep the guard on, clip the gradients, and lower the learning"
        " rate; go back to the last checkpoint before this step.",
        (
            "TRAIN.AMP_DTYPE=bf16",
            "TRAIN.NONFINITE_GUARD=true",
            "TRAIN.MAX_GRAD_NORM=1.0",
            "TRAIN.OPTIM.LR",
        ),
    ),
}

PLATEAU = {
    "": Remedy(
        "At this learning rate there is nothing more to gain, or the network has learnt what it can.",
        "Let the rate fall (a cosine to the end of the run), or end the run here.",
        ("TRAIN.SCHED.TYPE=cosine", "TRAIN.OPTIM.LR", "TRAIN.MAX_STEPS"),
    ),
}

LEARNING_RATE = {
    "": Remedy(
        "The peak of the learning rate is too high, or it is reached too early.",
        "Halve the rate, or warm up for longer.",
        ("TRAIN.OPTIM.LR", "TRAIN.SCHED.WARMUP_STEPS", "TRAIN.MAX_GRAD_NORM=1.0"),
    ),
    "zero": Remedy(
        "The schedule has come to its end before the run has, or was never started: nothing is learnt.",
        "See that the schedule covers the whole run, and that it is stepped once a step.",
        ("TRAIN.SCHED.MIN_LR", "TRAIN.EPOCHS", "TRAIN.OPTIM.LR"),
    ),
    "resume": Remedy(
        "The schedule began anew, or was skipped, when the run was resumed.",
        "Resume with the state of the schedule: `deblurkit train --resume` restores it.",
        ("TRAIN.OPTIM.LR", "TRAIN.SCHED.WARMUP_STEPS"),
    ),
    "spikes": Remedy(
        "Single batches throw the weights off: the rate is at the edge of what holds.",
        "Clip the gradients, or lower the learning rate.",
        ("TRAIN.MAX_GRAD_NORM=1.0", "TRAIN.OPTIM.LR"),
    ),
}

OUT_OF_MEMORY = {
    "": Remedy(
        "A step needs more memory than the GPU has left.",
        "Take smaller batches and accumulate more of them, compute activations again instead of keeping"
        " them, or turn on mixed precision; `deblurkit diagnose-memory` tells what needs how much.",
        (
            "TRAIN.AUTO_HALVE_BATCH=true",
            "TRAIN.BATCH_SIZE=1",
            "TRAIN.GRADIENT_ACCUMULATION_STEPS",
            "MODEL.VRT.USE_CHECKPOINT_ATTN=true",
            "MODEL.VRT.USE_CHECKPOINT_FFN=true",
            "TRAIN.AMP_ENABLED=true",
            "TRAIN.OPTIM.TYPE=adamw8bit",
        ),
    ),
    "validation": Remedy(
        "Whole frames are validated beside what training keeps on the GPU.",
        "Validate in tiles and one clip at a time.",
        ("TEST.TILE=[18, 192, 192]", "TRAIN.VAL_BATCH_SIZE=1", "DATALOADER.VAL_PREFETCH_FACTOR=1"),
    ),
    "killed": Remedy(
        "The machine's memory ran out: every worker keeps batches ready, beside the cache.",
        "Lower the cache, the number of workers and the batches that they keep ready.",
        ("DATA.CACHE_SIZE_GB", "DATALOADER.TOTAL_WORKERS", "DATALOADER.TRAIN_PREFETCH_FACTOR=2"),
    ),
}

FULL_MACHINE = {
    "": Remedy(
        "Workers, their batches and the cache fill the machine; beyond its end the kernel ends a process.",
        "Lower the cache, the number of workers and the batches that they keep ready.",
        ("DATA.CACHE_SIZE_GB", "DATALOADER.TOTAL_WORKERS", "DATALOADER.TRAIN_PREFETCH_FACTOR=2"),
    ),
}

WATCHDOG = {
    "": Remedy(
        "A rank waited for the others until its patience ended: one of them hangs, is far slower, or has"
        " gone.",
        "Look at the end of the other ranks' logs for the one that stopped first; a longer patience helps"
        " only against slowness.",
        ("TRAIN.RANK_TIMEOUT_MINUTES=120",),
    ),
    "validation": Remedy(
        "One rank validates alone while the others wait in their next exchange.",
        "Validate on all ranks, as `deblurkit train` does, or fewer frames; or let the ranks wait longer.",
        ("TRAIN.RANK_TIMEOUT_MINUTES=120", "LOG.VAL_EVERY_STEPS", "LOG.QUICK_VAL_EVERY_STEPS"),
    ),
}
