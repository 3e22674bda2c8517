"""What all readers of line logs have in common: each knows its own, and no dirt makes any of them fall."""

import io
import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deblurkit.analysis.formats import (
    basicsr,
    deepspeed,
    hf_trainer,
    kair,
    lightning_simple,
    mmengine,
    s_sdm,
    spkdeblurnet,
    timestamps_only,
    tqdm_bar,
    training_log,
)
from deblurkit.analysis.lines import CleanLines, clean_head
from deblurkit.analysis.readers import read_stream
from deblurkit.errors import DeblurkitError

# Of each format: its reader's module, the line that tells of a step, and the bytes that mark such lines.
STEP_LINES = {
    "basicsr": (
        basicsr,
        "2024-01-31 10:{m:02d}:{s:02d},123 INFO: [NAFNe..][epoch:  0, iter:   {n:5,d}, lr:(2.000e-04,)]"
        " [eta: 1 day, 2:03:04, time (data): 0.512 (0.003)] l_pix: 1.2345e-02 ",
        b"[epoch:",
    ),
    "kair": (
        kair,
        "24-01-31 10:{m:02d}:{s:02d}.123 : <epoch:  3, iter:   {n:5,d}, lr:4.000e-04> G_loss: 3.100e-02 ",
        b"<epoch:",
    ),
    "spkdeblurnet": (
        spkdeblurnet,
        "24-01-31 10:{m:02d}:{s:02d}.123 - INFO: <epoch:  0, iter: {n:5,d}, lr:1.000e-04> l_all: 1.2e-01",
        b"<epoch:",
    ),
    "s-sdm": (
        s_sdm,
        "2024-01-31 10:{m:02d}:{s:02d},123 - INFO - EPOCH {n}/1001: Train Loss: 0.0111",
        b"EPOCH ",
    ),
    "mmengine": (
        mmengine,
        "2023/05/19 13:{m:02d}:{s:02d} - mmengine - INFO - Epoch(train) [1][{n:4d}/9999]  lr: 1.0000e-03"
        "  eta: 0:00:05  time: 0.0410  data_time: 0.0068  memory: 402  loss: 1.9368",
        b"Epoch(train)",
    ),
    "training-log": (
        training_log,
        "2026-11-21 15:{m:02d}:{s:02d} step {n}/9999 | loss=0.07497 | lr=9.971e-04 | 22.2 samples/s"
        " | data_time=3.2ms | load_time=8.4ms",
        b"step ",
    ),
    "deepspeed": (
        deepspeed,
        "  0%|   | {n}/9999 [00:{s:02d}<1:00, 1.5s/it][2023-07-25 21:{m:02d}:{s:02d},269] [INFO] [Rank 0]"
        " time (ms) | fwd: 300.00 | bwd: 700.00 | bwd_inner: 500.00 | bwd_allreduce: 200.00 | step: 50.00",
        b"time (ms) |",
    ),
    "hf-trainer": (
        hf_trainer,
        "{{'loss': 2.31, 'grad_norm': 1.2, 'learning_rate': 5e-05, 'epoch': 0.03, 'step': {n}}}",
        b"'loss':",
    ),
    "tqdm": (tqdm_bar, "Epoch 1:  5%|##   | {n}/9999 [{m:02d}:{s:02d}<26:12,  1.65s/it, loss=0.1]", b"s/it"),
    "timestamps": (
        timestamps_only,
        "2024-01-31 10:{m:02d}:{s:02d} INFO iteration {n} loss 0.5",
        b"iteration",
    ),
}
OTHERS = [
    "Saving models and training states.",
    "Validation gopro, # psnr: 31.23 # ssim: 0.91",
    "Traceback (most recent call last):",
    "  File 'x.py', line 3",
    "RuntimeError: CUDA out of memory. Tried to allocate 2.00 GiB",
    "[Step 100] Memory - Process: 15678.9MB (6.1%), System: 125.4/256.0GB (49.0%)",
    "Resuming training from epoch: 1, iter: 500.",
    "",
]
LIGHTNING = (
    "FIT Profiler Report\n\n"
    "|  Action\t|  Mean duration (s)\t|  Num calls\t|  Total time (s)\t|  Percentage %\t|\n"
    "|  run_training_batch\t|  0.0061886\t|  20\t|  0.12377\t|  84.834\t|\n"
    "|  [Strategy]DDPStrategy.training_step\t|  0.0020889\t|  20\t|  0.041777\t|  28.634\t|\n"
)


def sample(name, numbers=range(1, 61)):
    """A log of one step in eleven seconds, with something else said after every tenth."""
    lines = []
    for number in numbers:
        seconds = 11 * number
        lines.append(STEP_LINES[name][1].format(n=number, m=seconds // 60 % 60, s=seconds % 60))
        if number % 10 == 0 and name != "tqdm":
            lines.append(OTHERS[number // 10 % len(OTHERS)])
    return lines


def read(text):
    return read_stream(io.BytesIO(text), source="x.log")


@pytest.mark.parametrize("name", STEP_LINES)
def test_each_log_is_read_by_its_own_reader_and_whole(name):
    log = read("\n".join(sample(name)).encode())
    assert (log.format, log.damaged_lines) == (name, 0)
    assert log.num_steps == (0 if name == "s-sdm" else 60)


@pytest.mark.parametrize("name", STEP_LINES)
def test_no_reader_but_the_last_resorts_takes_another_s_log(name):
    head = clean_head("\n".join(sample(name)).encode())
    takers = {other for other, (module, _, _) in STEP_LINES.items() if module.FORMAT.recognises(head)}
    allowed = {name, "timestamps"} | {"spkdeblurnet": {"kair"}, "deepspeed": {"tqdm"}}.get(name, set())
    assert name in takers
    assert takers <= allowed


def mutated(lines, generator, *, times):
    """Return lines as a bad disk, a killed writer or a terminal would leave them."""
    lines = [line.encode() for line in lines]
    for _ in range(times):
        place = generator.randrange(len(lines))
        line = lines[place]
        at, to = sorted(generator.randrange(len(line) + 1) for _ in range(2))
        kind = generator.randrange(9)
        if kind == 0:
            line = line[:at]
        elif kind == 1:
            line = line[:at] + generator.randbytes(generator.randrange(1, 9)) + line[at:]
        elif kind == 2:
            line = line[:at] + line[to:]
        elif kind == 3:
            line = line[:at] + b"\0" * 3 + line[at:]
        elif kind == 4:
            line = line[:at] + b"\x1b[31m" + line[at:to] + b"\r" + line[to:]
        elif kind == 5:
            line = line + lines[generator.randrange(len(lines))]
        elif kind == 6:
            line = (
                line[:at]
                + generator.choice([b"9" * 40, b"nan", b"-", b"1e999", b",,", b"inf", b"."])
                + line[to:]
            )
        elif kind == 7:
            line = generator.choice([other.encode() for other in OTHERS])
        else:
            line = lines[generator.randrange(len(lines))]
        lines[place] = line
    return lines


def check(name, text):
    """Read a log by a format's reader; whatever is in it, the counts of what came out must add up."""
    module, _, mark = STEP_LINES[name]
    lines = [line for line in CleanLines(io.BytesIO(text)) if line]
    try:
        log = module.FORMAT.read(CleanLines(io.BytesIO(text)), source="x.log")
    except DeblurkitError:
        return
    told = len(log.steps) + log.damaged_lines
    if name in (
        "basicsr",
        "kair",
        "spkdeblurnet",
        "mmengine",
    ):  # each marked line is a step, damaged, or a score
        marked = sum(mark in line and b"psnr" not in line for line in lines)
        assert marked <= told <= sum(line.count(mark) for line in lines)
    assert log.damaged_lines <= len(lines)
    assert len(log.times) == len(log.steps)
    assert log.num_steps == log.steps["count"].sum()
    assert (log.steps["count"] >= 1).all()
    assert log.steps["total_ms"].dropna().ge(0).all()
    assert log.times.empty or log.times.fillna(0).ge(0).all(axis=None)
    for frame in log.scalars.values():
        assert list(frame.columns) == ["step", "unix_s", "value"]


@pytest.mark.parametrize("name", STEP_LINES)
@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(
    seed=st.integers(0, 2**32), ending=st.sampled_from([b"\n", b"\r", b"\r\n"]), junk=st.binary(max_size=200)
)
def test_no_damage_makes_a_reader_fall(name, seed, ending, junk):
    generator = random.Random(seed)
    lines = mutated(sample(name), generator, times=generator.randrange(1, 6))
    lines.insert(generator.randrange(len(lines)), junk)
    check(name, ending.join(lines))


@settings(max_examples=150, deadline=None, derandomize=True)
@given(junk=st.binary(max_size=300), at=st.integers(0, len(LIGHTNING)))
def test_no_damage_makes_the_reader_of_reports_fall(junk, at):
    text = LIGHTNING.encode()[:at] + junk + LIGHTNING.encode()[at:]
    try:
        log = lightning_simple.FORMAT.read(CleanLines(io.BytesIO(text)), source="x.log")
    except DeblurkitError:
        return
    assert log.times.fillna(0).ge(0).all(axis=None)
    assert log.damaged_lines <= text.count(b"\n") + 1


@pytest.mark.slow
@pytest.mark.parametrize("name", STEP_LINES)
def test_a_hundred_thousand_damaged_lines(name):
    generator = random.Random(name)
    for _ in range(1_000):
        lines = sample(name, range(1, generator.randrange(20, 200)))
        check(name, b"\n".join(mutated(lines, generator, times=100)))
