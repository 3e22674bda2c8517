from datetime import datetime, timedelta

import pytest

from deblurkit.analysis.formats.training_log import looks_like_training_log
from deblurkit.cache.stats import CacheStats, format_cache_stats
from deblurkit.training.observer import Progress
from deblurkit.training.verification import Check, as_lines

SCORES = "(vrt): PSNR 25.72 dB (blurry 23.41), SSIM 0.7919 (blurry 0.6833)"
START = datetime(2026, 11, 21, 15, 48, 56)
SEED = """\
[After dataset creation] Memory - Process: 12345.6MB (4.8%), System: 48.3/256.0GB (18.9%)
step 50/8880 | loss=0.0312 | 0.5 samples/s | data_time=0.1ms
step 100/8880 | loss=0.0300 | 0.4 samples/s | data_time=120.0ms
[Step 100] Memory - Process: 15678.9MB (6.1%), System: 125.4/256.0GB (49.0%)
[SpikeDeblurDataset] Cache Stats:
  - Size: 374 items
  - Memory: 49876.3 / 51200.0 MB
  - Hit Rate: 82.45% (8245 hits / 1755 misses)
step 150/8880 | ... | 0.6 samples/s | data_time=0.1ms
⚠️  WARNING: System memory usage is critically high (91.2%)!
   Consider reducing CACHE_SIZE_GB or TOTAL_WORKERS in config.
Cache hit rate: 45.2% (4520 hits / 5480 misses)
RuntimeError: CUDA out of memory. Tried to allocate 2.00 GiB
"""


def test_the_log_of_the_seed_without_a_clock(read):
    log = read(SEED)
    assert (log.format, log.num_steps, log.damaged_lines) == ("training-log", 150, 0)
    assert log.steps["step"].tolist() == [50, 100, 150]
    assert log.steps["total_ms"].isna().all()
    assert log.times.empty  # 0.1 ms of data are no step
    values = {name: frame[["step", "value"]].to_numpy().tolist() for name, frame in log.scalars.items()}
    assert values["samples_per_second"] == [[50, 0.5], [100, 0.4], [150, 0.6]]
    assert values["data_ms"] == [[50, pytest.approx(0.1)], [100, 120], [150, pytest.approx(0.1)]]
    assert values["loss"] == [[50, 0.0312], [100, 0.03]]
    assert values["host_memory_share"][1:] == [[100, 0.49], [150, pytest.approx(0.912)]]
    assert [value for _, value in values["process_memory_bytes"]] == pytest.approx([12345.6e6, 15678.9e6])
    assert values["cache_hit_rate"] == [[100, 0.8245], [150, 0.452]]
    assert values["cache_max_bytes"] == [[100, 50 * 1024**3]]
    assert [(event.kind, event.step) for event in log.events] == [("memory-warning", 150), ("oom", 150)]


def ours(total, *, every=10, seconds=1.6, validate_every=100):
    """A log as the journal of a run writes it: its own formatting, whole seconds in front."""
    at, lines = START, []
    stamp = "%Y-%m-%d %H:%M:%S "
    for step in range(every, total + 1, every):
        at += timedelta(seconds=seconds * every)
        progress = Progress(step, total, 1 / step, 4e-4, 5.0, 3.2, 8.4)
        lines.append(at.strftime(stamp) + progress.as_line())
        if step % validate_every == 0:
            at += timedelta(seconds=47)
            lines.append(at.strftime(stamp) + f"validation after step {step} {SCORES}")
    spent = total * seconds
    lines.append(at.strftime(stamp) + f"beside {spent:.1f} s of steps: validation 94.0 s, checkpoints 1.5 s")
    stats = CacheStats(items=374, bytes=1024**3, max_bytes=2 * 1024**3, hits=9, misses=1, evictions=0)
    lines += [at.strftime(stamp) + part for part in format_cache_stats(stats).splitlines()]
    checks = [
        Check("psnr", "pass", "27.10 dB over 23.41", 3.7, ">= 0.01 dB", ""),
        Check("finite", "fail", "NaN", 1.0, "", "x"),
    ]
    lines += [at.strftime(stamp) + part for part in as_lines(checks)]
    return lines


def test_our_own_log(read):
    log = read("\n".join(ours(300)))
    assert (log.num_steps, log.damaged_lines) == (300, 0)
    known = log.steps[log.steps["wall_known"]]
    assert len(known) == 27  # not the first line, nor the two behind a validation
    assert known["total_ms"].to_numpy() == pytest.approx(1600, rel=0.05)  # a clock of whole seconds
    assert log.times.loc[known.index, "data"].to_numpy() == pytest.approx(3.2)
    assert log.scalars["load_ms"]["value"].unique().tolist() == [8.4]
    assert log.scalars["psnr_db"]["value"].tolist() == [25.72] * 3  # the check on it is none
    assert log.scalars["psnr_db"]["step"].tolist() == [100, 200, 300]
    assert log.scalars["cache_hit_rate"]["value"].tolist() == [0.9]
    validations = [event.seconds for event in log.events if event.kind == "validation"]
    assert validations == [pytest.approx(47, abs=2), pytest.approx(47, abs=2), None]
    assert {event.kind for event in log.events} == {"validation"}
    beside = [(part.name, part.seconds, part.count, part.after_step) for part in log.beside]
    assert beside == [("validation", 94.0, 3, 300), ("checkpoints", 1.5, 1, 300)]


def test_a_quick_look_is_no_validation_of_all(read):
    look = f"2026-11-21 15:00:09 quick look at 2 of 11 after step 100 {SCORES}"
    log = read("\n".join(["2026-11-21 15:00:00 step 100/200 | loss=1", look]))
    assert log.scalars["psnr_db/quick"]["value"].tolist() == [25.72]
    assert "psnr_db" not in log.scalars


@pytest.mark.parametrize(
    ("rate", "ms"),
    [("6.0 s/step", 6000), ("250.0 ms/step", 250), ("4.0 it/s", 250), ("step_time=0.25s", 250)],
)
def test_a_printed_length_of_a_step_stands_in_for_the_clock(read, rate, ms):
    log = read("\n".join(f"step {step}/100 | loss=0.1 | {rate} | data_time=50.0ms" for step in (50, 100)))
    assert log.steps["total_ms"].tolist() == [pytest.approx(ms)] * 2
    assert not log.steps["wall_known"].any()
    assert log.times["compute"].tolist() == [pytest.approx(ms - 50)] * 2


def test_damage_and_a_resume(read):
    lines = ours(100)[:10]
    lines[3] = lines[3][:30]  # ... step 40/100
    more = ours(200)[5:20]
    log = read("\n".join([*lines, *more]))
    assert log.damaged_lines == 1
    assert log.steps["step"].tolist()[:5] == [10, 20, 30, 50, 60]
    assert [event.kind for event in log.events].count("resume") == 1


def test_only_its_own_lines_are_recognised():
    assert looks_like_training_log(b"step 950/8880 | ... | 0.5 samples/s | data_time=0.1ms")
    assert not looks_like_training_log(b"every step 5 of the way")
