import gzip
import io
import json
import random
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import deblurkit
from deblurkit.analysis.formats.torch_trace import FORMAT, looks_like_torch_trace, read_torch_trace
from deblurkit.analysis.partition import repair
from deblurkit.analysis.readers import read_log
from deblurkit.errors import DeblurkitError

SHARED = Path(deblurkit.__file__).parents[2] / "shared" / "data" / "traces"

# What the issue's `specs/timing.md` gives, section 4: microseconds a step, and shares.
ORACLE = {
    "control": {
        "step_us": 77_502, "kernel_us": 61_543, "data_us": 70, "runtime_us": 2_466, "operator_us": 10_076,
        "busy_share": 0.794, "overlap_share": 0.470,
    },
    "nccl_data": {
        "step_us": 222_368, "kernel_us": 51_738, "runtime_us": 10_049, "operator_us": 159_252,
        "busy_share": 0.233,
    },
}  # fmt: skip


def shared(name):
    path = SHARED / f"{name}.json.gz"
    if not path.exists():
        pytest.skip(f"{path} is not there: the real traces lie beside the checkout, not in it")
    return path


def read(data):
    return read_torch_trace(io.BytesIO(data if isinstance(data, bytes) else data.encode()), source="x.json")


@pytest.mark.parametrize("name", ORACLE)
def test_real_traces_give_the_figures_of_the_specification(name):
    trace = read_log(shared(name)).trace
    found = {key: getattr(trace, key) for key in ORACLE[name]}
    assert found == pytest.approx(ORACLE[name], rel=0.01)


def test_real_traces_tell_rank_time_and_steps():
    control, nccl = read_log(shared("control")), read_log(shared("nccl_data"))
    assert (control.rank, control.world_size, list(control.steps["step"])) == (3, 8, list(range(1009, 1015)))
    assert (nccl.rank, nccl.world_size, list(nccl.steps["step"])) == (0, 2, [4, 5, 6])
    # The log inside nccl_data: "INFO:2024-05-22 17:15:23", of a zone 7 hours west of Greenwich.
    assert nccl.steps["unix_s"].iloc[-1] == pytest.approx(1_716_423_323, abs=15)
    assert control.steps["unix_s"].iloc[0] == pytest.approx(1_661_203_462.67, abs=0.02)
    assert control.notes == nccl.notes == ()


def test_a_real_trace_without_a_device_says_so():
    log = read_log(shared("cpu_only.pt.trace"))
    assert (log.rank, log.world_size, log.trace.has_device) == (34, 300, False)
    assert any("holds no device" in note for note in log.notes)


def test_a_real_trace_cut_in_its_packed_form_gives_its_first_steps(tmp_path):
    packed = shared("control").read_bytes()
    path = tmp_path / "cut.json.gz"
    path.write_bytes(packed[: int(len(packed) * 0.6)])
    log = read_log(path)
    assert any("cut off" in note for note in log.notes)
    assert set(log.steps["step"]) <= set(range(1009, 1015))
    assert log.trace.step_us == pytest.approx(77_502, rel=0.2)


@pytest.fixture
def run(traced_run):
    """Three steps of 1 ms or so: a loader, kernels, communication, a number fetched."""
    run = traced_run(
        distributedInfo={"rank": 2, "world_size": 4}, baseTimeNanoseconds=1_700_000_000_000_000_000
    )
    for _ in range(3):
        run.step()
        run.load(100)
        for _ in range(8):
            run.launch(90)
        run.launch(50, name="ncclDevKernel_AllReduce_Sum_f32", stream=20)
        run.item()
    run.step()
    return run


def test_a_row_for_each_step_is_a_partition_of_its_wall_time(run):
    log = read(run.as_bytes())
    assert list(log.steps["step"]) == [1, 2, 3]
    assert log.steps["wall_known"].all()
    assert {"data", "kernels", "kernels/communication alone", "copies", "runtime", "operators"} <= set(
        log.times
    )
    partition = repair(log)
    assert partition.unaccounted_ms is not None
    assert partition.notes == ()
    tops = log.times[[name for name in log.times if "/" not in name]]
    assert (tops.sum(axis=1) <= log.steps["total_ms"] + 1e-9).all()
    assert (partition.step_ms == log.steps["total_ms"]).all()
    assert log.times["data"].tolist() == [0.1] * 3


def test_rank_and_time_come_from_the_header_and_from_behind_the_events(run):
    head = run.as_dict()
    last = {
        key: head[key] for key in ("schemaVersion", "traceEvents", "distributedInfo", "baseTimeNanoseconds")
    }
    for text in (json.dumps(head), json.dumps(last)):
        log = read(text)
        assert (log.rank, log.world_size) == (2, 4)
        ends = [
            event["ts"] + event["dur"] for event in run.events if event["name"].startswith("ProfilerStep")
        ]
        assert log.steps["unix_s"].to_numpy() == pytest.approx([1.7e9 + end / 1e6 for end in ends], abs=2e-6)


@pytest.mark.parametrize(
    "info", [None, [], "x", {"rank": "2"}, {"rank": -1}, {"rank": True, "world_size": 1.5}]
)
def test_a_header_of_another_form_tells_nothing(run, info):
    log = read(json.dumps({**run.as_dict(), "distributedInfo": info, "baseTimeNanoseconds": info}))
    assert (log.rank, log.world_size) == (None, None)
    assert log.steps["unix_s"].isna().all()


OLDER = {
    "cpu_op": "Operator", "cuda_runtime": "Runtime", "kernel": "Kernel", "gpu_memcpy": "Memcpy",
    "user_annotation": "Operator",
}  # fmt: skip


def as_older(events):
    return [{**event, "cat": OLDER[event["cat"]]} for event in events]


def as_amd(events):
    return [
        {**event, "name": event["name"].replace("cuda", "hip").replace("Memcpy DtoH", "CopyDeviceToHost")}
        for event in events
    ]


def as_pairs(events):
    edges = []
    for event in events:
        end = {"ph": "E", "pid": event["pid"], "tid": event["tid"], "ts": event["ts"] + event["dur"]}
        edges += [{**event, "ph": "B", "dur": None}, end]
    return edges


def as_text_times(events):
    return [{**event, "ts": str(event["ts"]), "dur": str(event["dur"])} for event in events]


def shuffled(events):
    return random.Random(1).sample(events, len(events))


@pytest.mark.parametrize("form", [as_older, as_amd, as_pairs, as_text_times, shuffled])
def test_older_traces_other_devices_and_any_order_give_the_same_figures(run, form):
    expected = read(run.as_bytes())
    log = read(json.dumps({"traceEvents": form(run.events)}))
    same = "steps step_us kernel_us communication_us data_us runtime_us operator_us sync_us launch_gap_us"
    found = {key: getattr(log.trace, key) for key in same.split()}
    assert found == pytest.approx({key: getattr(expected.trace, key) for key in same.split()})
    assert log.damaged_lines == 0
    pd.testing.assert_frame_equal(log.times, expected.times)


def test_a_trace_without_steps_is_one_step_and_says_so(run):
    events = [event for event in run.events if not event["name"].startswith("ProfilerStep")]
    log = read(json.dumps({"traceEvents": events}))
    assert list(log.steps["step"]) == [1]
    assert [note for note in log.notes if "marks no steps" in note]


def test_what_the_trace_cannot_tell_is_said(run):
    unlinked = [{**event, "args": {}} for event in run.events]
    assert any("launched which" in note for note in read(json.dumps({"traceEvents": unlinked})).notes)
    second = [{**event, "pid": 1} for event in run.events if event["cat"] == "kernel"]
    assert any("2 devices" in note for note in read(json.dumps({"traceEvents": run.events + second})).notes)
    cut = run.as_bytes()[:-300]
    assert any("cut off" in note for note in read(cut).notes)


@pytest.mark.parametrize(
    ("head", "is_one"),
    [
        (b'{"schemaVersion": 1, "traceEvents": [', True),
        (b'\n\xef\xbb\xbf {"traceEvents":[]}', False),
        (b'\xef\xbb\xbf\n {"traceEvents":[]}', True),
        (b'{\n  "schemaVersion": 1,\n  "deviceProperties": [' + b" " * 10, True),
        (b'[{"ph": "X", "cat": "cpu_op", "name": "aten::add"', True),
        (b'[{"ph": "M", "name": "process_name"}', False),
        (b'{"schema": "deblurkit-timing/1", "names": ["forward"]}\n', False),
        (b'{"loss": 1.0}\n', False),
        (b"Step 1\n", False),
        (b"", False),
    ],
)
def test_traces_are_told_by_their_first_bytes(head, is_one):
    assert looks_like_torch_trace(head) is is_one


@pytest.mark.parametrize("name", ["trace.json", "trace.json.gz"])
def test_the_registry_reads_packed_and_plain_traces(run, name, tmp_path):
    path = tmp_path / name
    path.write_bytes(gzip.compress(run.as_bytes()) if name.endswith("gz") else run.as_bytes())
    log = read_log(path)
    assert (log.format, log.num_steps, log.source) == ("torch-trace", 3, str(path))


@pytest.mark.parametrize(
    "text",
    [
        '{"traceEvents": []}',
        '{"traceEvents": [{"ph": "X", "cat": "other", "name": "x", "pid": 1, "tid": 1, "ts": 1, "dur": 1}]}',
        '{"traceEvents": [{"ph": "X", "cat": "cpu_op", "name": "x", "pid": 1',
        '{"traceEvents": 5, "deviceProperties": []}',
    ],
)
def test_a_trace_without_anything_of_torch_is_an_error_that_says_what_to_do(text):
    with pytest.raises(DeblurkitError, match=r"^x\.json: .*expected .*check that"):
        read(text)


def test_json_that_is_no_trace_is_not_recognised(tmp_path):
    path = tmp_path / "report.json"
    path.write_text(json.dumps({"files": [], "phases": [{"name": "data"}]}), encoding="utf-8")
    with pytest.raises(DeblurkitError, match="profiler trace"):
        read_log(path)


def mutated(data, generator, *, times):
    """Return bytes with so many pieces overwritten, taken out, doubled, or once in a while cut off."""
    data = bytearray(data)
    for _ in range(times):
        place, size = generator.randrange(len(data) + 1), generator.randint(1, 30)
        kind = generator.randrange(5)
        if kind == 0:
            data[place : place + size] = generator.randbytes(size)
        elif kind == 1:
            del data[place : place + size * generator.choice((1, 20))]
        elif kind == 2:
            data[place:place] = data[place : place + size * 10]
        elif kind == 3:
            data[place : place + 1] = generator.choice(
                (b'"', b"{", b"}", b"[", b"]", b"\0", b"\\", b"-", b"e")
            )
        elif generator.random() < 0.1:
            del data[place:]
    return bytes(data)


def check(data, most):
    """A damaged trace is read, or refused in one line; never more is found than was there."""
    try:
        log = read(data)
    except DeblurkitError as error:
        assert "\n" not in str(error)
        return
    assert len(log.steps) == len(log.times) == log.num_steps == log.trace.steps >= 1
    assert (log.steps["total_ms"] > 0).all()
    assert (log.times.fillna(0) >= 0).all(axis=None)
    tops = log.times[[name for name in log.times if "/" not in name]].sum(axis=1)
    assert (tops <= log.steps["total_ms"] * (1 + 1e-6) + 1e-6).all()
    assert log.num_steps + log.damaged_lines <= most


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_a_damaged_trace_never_ends_in_a_traceback(run, seed):
    generator = random.Random(seed)
    check(mutated(run.as_bytes(), generator, times=generator.randint(1, 4)), most=10 * len(run.events))


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=300), st.sampled_from([b"", b'{"traceEvents": [', b"["]))
def test_no_bytes_end_in_a_traceback(data, start):
    check(start + data, most=1_000)


@pytest.mark.slow
def test_a_hundred_thousand_damages_never_end_in_a_traceback(run):
    generator = random.Random(7)
    whole = run.as_bytes()
    for _ in range(10_000):
        check(mutated(whole, generator, times=10), most=10 * len(run.events))


def test_the_format_is_binary_and_named():
    assert FORMAT.is_binary
    assert "trace" in FORMAT.name
