"""A run with each fault, the same run without it, and what the report says of both."""

import io
from pathlib import Path

import pytest

import deblurkit
from deblurkit.analysis.diagnosis import find, verdict
from deblurkit.analysis.evidence import Evidence
from deblurkit.analysis.formats.torch_trace import read_torch_trace
from deblurkit.analysis.partition import repair
from deblurkit.analysis.readers import read_log
from deblurkit.analysis.rules.trace import trace_verdict
from deblurkit.config.load import load_config

SHARED = Path(deblurkit.__file__).parents[2] / "shared" / "data" / "traces"
STEPS = 6


def evidence_of(log):
    partition = repair(log)
    return Evidence(
        times=partition.times,
        step_ms=partition.step_ms,
        unaccounted_ms=partition.unaccounted_ms,
        step_numbers=log.steps["step"],
        num_steps=log.num_steps,
        is_summary=False,
        log=log,
    )


@pytest.fixture
def train(traced_run):
    """Return a function that gives the log of a run: (what holds it up) -> log."""

    def train(
        *,
        kernels=100,
        kernel=100.0,
        host=10.0,
        load=0.0,
        sync_every=0,
        item_every=0,
        exchange=0.0,
        device=True,
    ):
        run = traced_run()
        for _ in range(STEPS):
            run.step()
            if load:
                run.load(load)
            run.launches_of(kernels, kernel, host, item_every=item_every, sync_every=sync_every)
            if exchange:
                run.launch(exchange, name="ncclDevKernel_AllReduce_Sum_f32_RING_LL", stream=20)
        run.step()
        if not device:
            run.events = [event for event in run.events if event["cat"] in ("cpu_op", "user_annotation")]
        return read_torch_trace(io.BytesIO(run.as_bytes()), source="x.json")

    return train


FAULTS = {
    "data-bound": ({"load": 12_000, "item_every": 100}, {"load": 70, "item_every": 100}),
    "sync-bound": ({"kernel": 30, "host": 20, "sync_every": 1}, {"kernel": 30, "host": 20}),
    "host-bound": ({"kernel": 5, "host": 20}, {"kernel": 50, "host": 20}),
    "communication": ({"exchange": 4_000}, {"exchange": 400}),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_is_found_and_its_repaired_twin_is_healthy(train, fault):
    ill, well = (train(**how) for how in FAULTS[fault])
    assert [finding.id for finding in find(evidence_of(ill))] == [fault]
    assert trace_verdict(ill.trace).startswith(fault)
    assert find(evidence_of(well)) == []
    assert trace_verdict(well.trace).startswith("compute-bound: kernels run ")
    assert trace_verdict(well.trace).endswith(" ms step")


@pytest.mark.parametrize("fault", ["data-bound", "sync-bound"])
def test_the_gain_that_a_finding_promises_comes_true(train, fault):
    ill, well = (train(**how) for how in FAULTS[fault])
    (finding,) = find(evidence_of(ill))
    gained = ill.steps["total_ms"].iloc[1:].mean() / well.steps["total_ms"].iloc[1:].mean()
    assert finding.gain.low <= gained <= finding.gain.high * 1.03
    assert finding.gain.likely == pytest.approx(gained, rel=0.05)


@pytest.mark.parametrize("fault", FAULTS)
def test_the_remedy_names_keys_of_the_configuration(train, fault):
    (finding,) = find(evidence_of(train(**FAULTS[fault][0])))
    known = load_config(warn=str).model_dump(by_alias=True)
    for key in finding.keys:
        place = known
        for part in key.split("."):
            assert part in place, key
            place = place[part]


def test_evidence_quotes_the_calls_that_wait(train):
    (finding,) = find(evidence_of(train(kernel=30, host=20, item_every=1, kernels=200)))
    assert finding.id == "sync-bound"
    assert "cudaMemcpyAsync in aten::item 200 x, " in finding.evidence


def test_a_busy_device_may_wait_and_load_as_it_likes(train):
    log = train(load=5_000, sync_every=0, item_every=0)
    assert find(evidence_of(log)) == []
    assert find(evidence_of(train(kernel=2_000, kernels=20, sync_every=1))) == []


def test_two_causes_are_told_apart_by_their_size(train):
    log = train(kernel=30, host=20, sync_every=1, load=3_000, kernels=200)
    assert {finding.id for finding in find(evidence_of(log))} == {"data-bound", "sync-bound"}
    assert trace_verdict(log.trace).startswith("data-bound: the GPU idles for data in 25")


def test_without_a_device_only_data_can_be_blamed(train):
    log = train(kernel=5, host=20, device=False)
    assert find(evidence_of(log)) == []
    assert trace_verdict(log.trace).startswith("undetermined: the trace holds no device")
    log = train(load=1_500, device=False)
    assert [finding.id for finding in find(evidence_of(log))] == ["data-bound"]
    assert trace_verdict(log.trace).startswith("data-bound: the data loader's call is 60.0 %")


def test_without_launches_an_idle_device_is_not_explained(train, traced_run):
    run = traced_run()
    for _ in range(STEPS):
        run.step()
        for _ in range(50):
            run.launch(5, 20)
    run.step()
    for event in run.events:
        event["args"] = {}
    log = read_torch_trace(io.BytesIO(run.as_bytes()), source="x.json")
    assert find(evidence_of(log)) == []
    assert trace_verdict(log.trace).startswith("undetermined: the GPU idles in 75")


def test_a_trace_that_was_cut_off_is_not_judged(traced_run):
    run = traced_run()
    for _ in range(STEPS):
        run.step()
        run.launch(5_000)
    run.step()
    device = [event for event in run.events if event["cat"] == "kernel"]
    run.events = [event for event in run.events if event["cat"] != "kernel"] + device[:1]  # as Kineto orders
    log = read_torch_trace(io.BytesIO(run.as_bytes()[:-9]), source="x.json")
    assert log.num_steps == STEPS
    assert find(evidence_of(log)) == []
    assert trace_verdict(log.trace).startswith("undetermined: the trace is cut off")


def test_the_rules_of_a_trace_are_silent_for_other_logs(train):
    log = train(**FAULTS["host-bound"][0])
    plain = evidence_of(log)
    without = Evidence(
        plain.times, plain.step_ms, plain.unaccounted_ms, plain.step_numbers, STEPS, is_summary=False
    )
    assert find(without) == []
    assert verdict(plain).startswith("host-bound")
    assert not verdict(without).startswith("host-bound")


@pytest.mark.parametrize(
    ("name", "words", "ids"),
    [
        ("nccl_data", "host-bound: the GPU idles because the host launches too late in 76", ["host-bound"]),
        ("control", "compute-bound: kernels run 79.4 % of a 77.5 ms step", ["communication"]),
        ("cpu_only.pt.trace", "undetermined: the trace holds no device", []),
    ],
)
def test_real_traces_are_told_apart(name, words, ids):
    path = SHARED / f"{name}.json.gz"
    if not path.exists():
        pytest.skip(f"{path} is not there: the real traces lie beside the checkout, not in it")
    log = read_log(path)
    assert trace_verdict(log.trace).startswith(words)
    assert [finding.id for finding in find(evidence_of(log))] == ids
