import json
import math

import pytest
import torch
from torch import nn

from deblurkit.errors import CheckpointError
from deblurkit.training.checkpoint import save_checkpoint
from deblurkit.training.precision import Precision
from deblurkit.training.run_evidence import RunEvidence
from deblurkit.training.validate import Score
from deblurkit.training.verification import (
    RULES,
    Check,
    as_document,
    as_lines,
    reload_differences,
    verify,
)
from deblurkit.training.vitals import VitalSigns

GIB, MIB = 2**30, 2**20
CPU = torch.device("cpu")


def look(**figures):
    """A look at a machine that is well."""
    sign = {
        "seconds": 10.0,
        "rss_bytes": 4 * GIB,
        "host_used_percent": 40.0,
        "cpu_percent": 50.0,
        "io_wait_percent": 1.0,
        "disk_free_bytes": 100 * GIB,
        "written_bytes": 50 * MIB,
        "gpu_busy_percent": 97.0,
        "gpu_used_bytes": 20 * GIB,
    }
    return VitalSigns(**{**sign, **figures})


def evidence(**figures):
    """A run on a GPU that is well."""
    well = {
        "device_type": "cuda",
        "steps": 200,
        "epochs": 10.0,
        "losses": [(10 * n, 0.1 / n) for n in range(1, 21)],
        "validations": [(200, Score(27.0, 0.9, 25.0, 0.8))],
        "skipped_steps": 0,
        "weights_are_finite": True,
        "reload_differences": [],
        "samples_per_second": [2.0] * 20,
        "data_ms": [3.0] * 20,
        "step_ms": [500.0] * 20,
        "cache_hit_rate": 0.85,
        "gpu_peak_bytes": 20 * GIB,
        "gpu_total_bytes": 24 * GIB,
        "checkpoint_bytes": 220 * MIB,
        "vitals": [look() for _ in range(20)],
    }
    return RunEvidence(**{**well, **figures})


def check(name, **figures):
    return next(found for found in verify(evidence(**figures)) if found.id == name)


def verdict(name, **figures):
    return check(name, **figures).verdict


def test_a_run_that_is_well_passes_every_check_and_needs_no_advice():
    checks = verify(evidence())
    assert {found.id: found.verdict for found in checks} == {rule.id: "pass" for rule in RULES}
    assert [found.advice for found in checks] == [""] * len(checks)


def test_a_run_that_knows_nothing_of_itself_passes_nothing():
    checks = verify(RunEvidence())
    assert {found.verdict for found in checks} == {"unknown"}
    assert all(found.figure and found.value is None and not found.advice for found in checks)


def test_every_point_of_the_seeds_list_has_a_rule():
    """Function, speed, resources; in the order of the list."""
    assert [rule.id for rule in RULES] == [
        *("loss_trend", "psnr", "ssim", "finite", "checkpoint_reload"),
        *("throughput", "slowdown", "gpu_busy", "data_wait", "data_share", "cache_hits"),
        *("gpu_memory", "memory_growth", "host_memory", "cpu", "disk_room", "disk_wait"),
    ]


def course(first, last):
    """Eight values: quarters of two, the first and the last as given."""
    return [first, first, 1, 1, 1, 1, last, last]


@pytest.mark.parametrize(
    ("last", "expected"), [(0.5, "pass"), (0.98, "pass"), (0.99, "warn"), (1.09, "warn"), (1.11, "fail")]
)
def test_the_loss_falls_stays_or_rises(last, expected):
    found = check("loss_trend", losses=list(enumerate(course(1.0, last))))
    assert found.verdict == expected
    assert found.value == pytest.approx(100 * (last - 1))
    assert found.figure == f"1.00000 -> {last:.5f} ({100 * (last - 1):+.1f} %)"


def test_a_single_spike_in_the_loss_is_no_trend():
    losses = [1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.45, 0.44, 40.0, 0.42, 0.41, 0.40]
    assert verdict("loss_trend", losses=list(enumerate(losses))) == "pass"


def test_seven_losses_tell_no_trend():
    assert check("loss_trend", losses=list(enumerate([1.0] * 7))).figure == "7 losses reported, 8 needed"


@pytest.mark.parametrize(("psnr", "expected"), [(25.02, "pass"), (25.0, "warn"), (24.8, "fail")])
def test_a_network_has_to_improve_its_input(psnr, expected):
    scores = [(100, Score(30.0, 0.9, 25.0, 0.8)), (200, Score(psnr, 0.9, 25.0, 0.8))]
    assert verdict("psnr", validations=scores) == expected


def test_perfect_frames_have_no_gain_in_psnr():
    found = check("psnr", validations=[(200, Score(math.inf, 1.0, math.inf, 1.0))])
    assert (found.verdict, found.value) == ("warn", 0.0)


@pytest.mark.parametrize(("ssim", "expected"), [(0.81, "pass"), (0.8, "warn"), (0.78, "fail")])
def test_ssim_is_compared_with_the_input_too(ssim, expected):
    assert verdict("ssim", validations=[(200, Score(27.0, ssim, 25.0, 0.8))]) == expected


@pytest.mark.parametrize(
    ("figures", "expected"),
    [
        ({"skipped_steps": 1}, "warn"),
        ({"skipped_steps": 10}, "warn"),  # 5 % of 200
        ({"skipped_steps": 11}, "fail"),
        ({"weights_are_finite": False}, "fail"),
        ({"weights_are_finite": False, "skipped_steps": None}, "fail"),
        ({"losses": [(200, math.nan)]}, "fail"),
        ({"losses": [(200, math.nan)], "skipped_steps": 1}, "warn"),  # the loss of the step that was skipped
        ({"skipped_steps": None}, "unknown"),
        ({"weights_are_finite": None}, "unknown"),
    ],
)
def test_nan_and_infinity(figures, expected):
    assert verdict("finite", **figures) == expected


def test_what_is_infinite_is_null_in_json():
    found = check("finite", weights_are_finite=False)
    assert found.value is None
    json.dumps(found.value, allow_nan=False)


def test_a_checkpoint_that_reads_back_otherwise_fails():
    found = check("checkpoint_reload", reload_differences=["model.a", "model.b"])
    assert (found.verdict, found.value) == ("fail", 2)
    assert found.figure == "2 values other than in memory (model.a)"


def test_a_checkpoint_that_cannot_be_read_back_fails():
    found = check("checkpoint_reload", reload_differences=None, reload_error="step.pt: damaged")
    assert (found.verdict, found.value) == ("fail", None)
    assert found.figure == "cannot be read back: step.pt: damaged"


def test_less_than_a_sample_a_second_is_slow():
    assert verdict("throughput", samples_per_second=[0.9] * 3) == "warn"
    assert verdict("throughput", samples_per_second=[1.1] * 3) == "pass"


@pytest.mark.parametrize(("last", "expected"), [(0.95, "pass"), (0.9, "warn"), (0.7, "fail"), (1.5, "pass")])
def test_a_run_should_not_get_slower(last, expected):
    assert verdict("slowdown", samples_per_second=[0.01, *course(1.0, last)]) == expected


@pytest.mark.parametrize(("busy", "expected"), [(95.0, "pass"), (80.0, "warn"), (40.0, "fail")])
def test_gpu_utilisation(busy, expected):
    assert verdict("gpu_busy", vitals=[look(gpu_busy_percent=busy)]) == expected


def test_without_a_gpu_nothing_is_said_of_one():
    silent = [look(gpu_busy_percent=None)]
    assert check("gpu_busy", vitals=silent, device_type="cpu").figure == "no GPU in this run"
    assert check("gpu_busy", vitals=silent).figure == "the driver does not say"
    assert verdict("gpu_memory", gpu_peak_bytes=None) == "unknown"


@pytest.mark.parametrize(
    ("data", "step", "wait", "share"),
    [
        (9.0, 1000.0, "pass", "pass"),
        (50.0, 1000.0, "warn", "pass"),
        (150.0, 1000.0, "warn", "warn"),
        (250.0, 1000.0, "warn", "fail"),
        (3.0, 10.0, "pass", "fail"),
    ],
)
def test_data_wait_in_milliseconds_and_as_a_share(data, step, wait, share):
    figures = {"data_ms": [data] * 4, "step_ms": [step] * 4}
    assert (verdict("data_wait", **figures), verdict("data_share", **figures)) == (wait, share)


@pytest.mark.parametrize(("rate", "expected"), [(0.76, "pass"), (0.7, "warn"), (0.5, "fail")])
def test_cache_hits(rate, expected):
    assert verdict("cache_hits", cache_hit_rate=rate) == expected
    assert verdict("cache_hits", cache_hit_rate=rate, epochs=2.0) == "unknown"


@pytest.mark.parametrize(
    ("early", "late", "expected"),
    [
        (4 * GIB, 4 * GIB, "pass"),
        (4 * GIB, 4.4 * GIB, "warn"),
        (4 * GIB, 5 * GIB, "fail"),
        (5 * GIB, 4 * GIB, "pass"),
        (200 * MIB, 250 * MIB, "pass"),  # a quarter more, and too little to speak of
    ],
)
def test_memory_that_grows_after_the_first_quarter(early, late, expected):
    sizes = [GIB] * 2 + [early] * 2 + [(early + late) / 2] * 2 + [late] * 2
    assert verdict("memory_growth", vitals=[look(rss_bytes=size) for size in sizes]) == expected


def test_few_looks_tell_nothing_of_growth():
    assert verdict("memory_growth", vitals=[look()] * 7) == "unknown"


@pytest.mark.parametrize(("used", "expected"), [(85.0, "pass"), (91.2, "warn"), (98.0, "fail")])
def test_host_memory_is_judged_at_its_fullest(used, expected):
    assert verdict("host_memory", vitals=[look(host_used_percent=used), look()]) == expected


def test_processors_are_judged_where_the_network_is_elsewhere():
    busy = [look(cpu_percent=None), look(cpu_percent=90.0)]
    assert verdict("cpu", vitals=busy) == "warn"
    assert check("cpu", vitals=busy, device_type="cpu").figure == "the network itself computes on the CPU"


def test_full_gpu_memory_is_worth_a_word():
    assert verdict("gpu_memory", gpu_peak_bytes=23 * GIB) == "warn"  # 95.8 %


@pytest.mark.parametrize(("free", "expected"), [(11, "pass"), (5, "warn"), (1, "fail")])
def test_disk_space_is_counted_in_checkpoints(free, expected):
    figures = {"checkpoint_bytes": GIB, "vitals": [look(), look(disk_free_bytes=free * GIB)]}
    assert verdict("disk_room", **figures) == expected
    assert verdict("disk_room", **{**figures, "checkpoint_bytes": None}) == "unknown"


@pytest.mark.parametrize(("waiting", "expected"), [(5.0, "pass"), (15.0, "warn"), (30.0, "fail")])
def test_waiting_for_a_disk(waiting, expected):
    found = check("disk_wait", vitals=[look(io_wait_percent=waiting)])
    assert found.verdict == expected
    assert found.figure.endswith("5.0 MiB/s written")  # 50 MiB in 10 s


def test_limits_are_told_in_words():
    thresholds = {rule.id: rule.threshold for rule in RULES}
    assert thresholds["gpu_busy"] == ">= 90 %; fails < 50 %"
    assert thresholds["data_wait"] == "<= 10 ms"


def test_a_line_for_each_check_and_one_for_their_counts():
    checks = [
        Check("psnr", "pass", "27.00 dB", 2.0, ">= 0.01 dB", ""),
        Check("gpu_busy", "warn", "81.0 %", 81.0, ">= 90 %; fails < 50 %", "the GPU waits"),
        Check("cpu", "unknown", "not looked at", None, "<= 85 %", ""),
    ]
    assert list(as_lines(checks)) == [
        "verification: 1 passed, 1 warning, 0 failed, 1 unknown",
        "pass psnr: 27.00 dB (>= 0.01 dB)",
        "WARN gpu_busy: 81.0 % (>= 90 %; fails < 50 %): the GPU waits",
        "unknown cpu: not looked at (<= 85 %)",
    ]
    document = as_document(checks)
    assert document["counts"] == {"pass": 1, "warn": 1, "fail": 0, "unknown": 1}
    assert document["checks"][1] == {
        "id": "gpu_busy",
        "verdict": "warn",
        "figure": "81.0 %",
        "value": 81.0,
        "threshold": ">= 90 %; fails < 50 %",
        "advice": "the GPU waits",
    }


class Saved:
    """A small run with a checkpoint of its step 3."""

    def __init__(self, folder):
        self.model = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
        self.optimizer = torch.optim.AdamW(self.model.parameters())
        self.model(torch.randn(4, 2)).sum().backward()
        self.optimizer.step()
        self.path = folder / "step_00000003.pt"
        precision = Precision(CPU, None)
        save_checkpoint(
            self.path,
            step=3,
            config={},
            model=self.model,
            optimizer=self.optimizer,
            precision=precision,
            extra={},
        )

    def differences(self):
        parts = {"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict()}
        return reload_differences(self.path, parts)


def test_a_checkpoint_reads_back_as_it_is_in_memory(tmp_path):
    saved = Saved(tmp_path)
    assert saved.differences() == []
    with torch.no_grad():
        saved.model[1].running_mean[0] = math.nan
    assert saved.differences() == ["model.1.running_mean"]


def test_every_value_that_is_other_is_named(tmp_path):
    saved = Saved(tmp_path)
    with torch.no_grad():
        saved.model[0].weight[0, 0] += 1e-6
    saved.optimizer.param_groups[0]["lr"] = 0.5
    saved.optimizer.state[saved.model[0].bias]["exp_avg"].fill_(
        1.0
    )  # before a normalisation its gradient is 0 but for rounding
    assert saved.differences() == [
        "model.0.weight",
        "optimizer.state.1.exp_avg",
        "optimizer.param_groups.0.lr",
    ]


def test_nan_that_was_saved_is_the_same_nan(tmp_path):
    path = tmp_path / "step_00000001.pt"
    model = nn.Linear(1, 1)
    nn.init.constant_(model.weight, math.nan)
    optimizer = torch.optim.SGD(model.parameters())
    save_checkpoint(
        path,
        step=1,
        config={},
        model=model,
        optimizer=optimizer,
        precision=Precision(CPU, None),
        extra={},
    )
    assert reload_differences(path, {"model": model.state_dict()}) == []
    missing = reload_differences(path, {"ema": {"weight": torch.zeros(1)}})
    assert missing == ["ema"]


def test_a_damaged_checkpoint_cannot_be_compared(tmp_path):
    path = tmp_path / "step_00000001.pt"
    path.write_bytes(b"PK")
    with pytest.raises(CheckpointError):
        reload_differences(path, {})
