"""Why a device idled, told from the trace, against what the same run does without that cause."""

import io

import pytest

from deblurkit.analysis.trace_idle import idle_causes
from deblurkit.analysis.trace_records import TraceRecords
from deblurkit.analysis.trace_stream import TraceStream
from deblurkit.analysis.trace_timeline import timeline

STEPS = 8


def line_of(run):
    return timeline(TraceRecords(TraceStream(io.BytesIO(run.as_bytes())).events()))


def causes(run):
    """Return the shares of the middle steps by cause, and their length: the first and last ones are cut."""
    line = line_of(run)
    idle = idle_causes(line)
    middle = slice(2, -1)
    whole = (line.steps[:, 1] - line.steps[:, 0])[middle].sum()
    shares = {
        name: getattr(idle, name)[middle].sum() / whole for name in ("data", "waiting", "late", "whole")
    }
    return shares, whole / (STEPS - 3)


@pytest.fixture
def train(traced_run):
    """Return a function that runs steps: (what holds the host up) -> shares of idle time, step length."""

    def train(
        *, kernels=100, kernel=100.0, host=10.0, load=0.0, item_every=0, sync_every=0, small=0, think=0.0
    ):
        run = traced_run()
        for _ in range(STEPS):
            run.step()
            if load:
                run.load(load)
            run.launches_of(kernels, kernel, host, item_every=item_every, sync_every=sync_every)
            run.think(think)
            for _ in range(small):
                run.launch(3.0, host)
        run.step()
        return causes(run)

    return train


@pytest.mark.parametrize(
    ("ill", "cause", "remedy"),
    [
        ({"load": 8_000, "item_every": 100}, "data", {"load": 0}),
        ({"load": 30_000}, "data", {"load": 0}),
        ({"load": 20_000, "sync_every": 10}, "data", {"load": 0}),
        ({"kernel": 5, "host": 20}, "late", {"host": 5}),
        ({"kernel": 5, "host": 20, "load": 300, "item_every": 100}, "late", {"host": 5}),
        ({"kernel": 30, "host": 20, "sync_every": 1}, "waiting", {"sync_every": 0}),
        ({"kernel": 60, "host": 20, "item_every": 1}, "waiting", {"item_every": 0}),
        ({"item_every": 100, "small": 300}, "waiting", {"item_every": 0}),
        ({"sync_every": 100, "think": 5_000}, "waiting", {"sync_every": 0}),
    ],
)
def test_without_its_cause_the_idle_time_is_gone(train, ill, cause, remedy):
    shares, before = train(**ill)
    _, after = train(**{**ill, **remedy})
    assert max(shares, key=lambda name: shares[name] if name != "whole" else 0) == cause
    assert shares[cause] > 0.1
    assert 1 - shares[cause] == pytest.approx(after / before, abs=0.03)


@pytest.mark.parametrize(
    "healthy",
    [
        {},
        {"load": 5_000},  # the device has work left meanwhile
        {"item_every": 100},
        {"sync_every": 100, "kernel": 1_000},
        {"small": 50},
    ],
)
def test_a_busy_device_has_no_cause_to_find(train, healthy):
    shares, _ = train(**healthy)
    assert shares["whole"] < 0.03
    assert max(shares.values()) < 0.03


def test_a_host_that_is_always_late_is_not_excused_by_a_wait(train):
    shares, _ = train(kernel=5, host=20, item_every=100)
    assert shares["late"] > 0.7
    assert shares["waiting"] < 0.02


def test_causes_never_exceed_the_idle_time(train):
    for host in (5, 15, 40):
        for sync_every in (0, 1, 7):
            for load in (0, 500, 5_000):
                shares, _ = train(kernel=20, host=host, sync_every=sync_every, load=load)
                parts = shares["data"] + shares["waiting"] + shares["late"]
                assert 0 <= parts <= shares["whole"] + 1e-9


def test_a_gap_whose_next_kernel_was_queued_is_nobodys_fault(traced_run):
    run = traced_run()
    run.step()
    run.launch(50.0)
    run.launch(50.0)
    run.device += 500  # the device takes its time between two kernels that were launched before
    run.launch(50.0)
    run.host = run.device
    run.step()
    run.launch(50.0)
    run.step()
    shares = idle_causes(line_of(run))
    assert shares.whole[0] == pytest.approx(500 + 7)  # 7 before the first kernel
    assert shares.late[0] == pytest.approx(7)
    assert shares.data[0] == shares.waiting[0] == 0


def test_where_launches_are_not_known_only_data_and_waits_count(traced_run):
    run = traced_run()
    for _ in range(4):
        run.step()
        run.load(500)
        run.launch(50.0)
        run.wait()
    run.step()
    for event in run.events:
        event["args"].pop("correlation", None)
    idle = idle_causes(line_of(run))
    assert (idle.late == 0).all()
    assert (idle.data[1:] == 500).all()
    assert (idle.waiting[1:] == 1).all()  # the call returns 1 us after the kernel's end
