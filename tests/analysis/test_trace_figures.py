import io
import json

import pytest

from deblurkit.analysis.trace_figures import figures, partition, short_kernel_name
from deblurkit.analysis.trace_records import TraceRecords
from deblurkit.analysis.trace_stream import TraceStream
from deblurkit.analysis.trace_timeline import timeline


def event(category, name, start, end, tid=1, **args):
    pid = 0 if category in ("kernel", "gpu_memcpy") else 9
    return {
        "ph": "X", "cat": category, "name": name, "pid": pid, "tid": tid, "ts": start, "dur": end - start,
        "args": args,
    }  # fmt: skip


# One step of 100 us. Loader 0-20; operators 20-40 and 40-98; launches 30-40, 45-50, 50-52; a wait 52-96. On
# the device a kernel 45-65, communication 60-90 in another stream, a copy 90-95.
STEP = [
    event("user_annotation", "ProfilerStep#7", 0, 100),
    event("user_annotation", "enumerate(DataLoader)#_SingleProcessDataLoaderIter.__next__", 0, 20),
    event("cpu_op", "aten::conv2d", 20, 40),
    event("cpu_op", "aten::empty", 21, 22),
    event("cuda_runtime", "cudaLaunchKernel", 30, 40, correlation=1),
    event("cpu_op", "aten::to", 40, 98),
    event("cuda_runtime", "cudaLaunchKernel", 45, 50, correlation=2),
    event("cuda_runtime", "cudaMemcpyAsync", 50, 52, correlation=3),
    event("cuda_runtime", "cudaStreamSynchronize", 52, 96),
    event("kernel", "void gemm<float, 4>(float const*, int)", 45, 65, 7, correlation=1),
    event("kernel", "ncclKernel_AllReduce_RING_LL_Sum_float(ncclWorkElem)", 60, 90, 20, correlation=2),
    event("gpu_memcpy", "Memcpy DtoH (Device -> Pinned)", 90, 95, 7, correlation=3),
    event("gpu_user_annotation", "nccl:all_reduce", 60, 90, 20),
]


def read(events):
    records = TraceRecords(TraceStream(io.BytesIO(json.dumps({"traceEvents": events}).encode())).events())
    line = timeline(records)
    rows = partition(line)
    return rows, figures(line, records, rows)


def test_each_moment_counts_once_for_the_first_row_that_covers_it():
    rows, _ = read(STEP)
    assert {name: values.tolist() for name, values in rows.items()} == {
        "kernels": [45],  # 45-90
        "kernels/communication alone": [25],  # 65-90
        "copies": [5],
        "runtime": [11],  # 30-40 and 95-96
        "runtime/waiting": [1],
        "data": [20],
        "operators": [17],  # 20-30, 40-45 and 96-98
    }


def test_the_figures_of_a_step_in_closed_form():
    _, found = read(STEP)
    assert (found.steps, found.step_us, found.kernel_us, found.copy_us) == (1, 100, 45, 5)
    assert (found.communication_us, found.exposed_communication_us) == (30, 25)
    assert found.overlap_share == pytest.approx(5 / 30)
    assert found.busy_share == pytest.approx(0.45)
    assert (found.data_us, found.runtime_us, found.operator_us, found.sync_us) == (20, 11, 17, 44)
    assert (found.has_device, found.launches_known) == (True, True)
    assert found.idle_us == 50  # 0-45 and 95-100
    assert found.data_gap_us == 20
    assert found.launch_gap_us == 25  # 20-45: launched at 30, with nothing before
    assert found.sync_gap_us == 5  # 95-96 in the wait; 96-100 later than without it
    assert found.each.iloc[0].to_dict() == pytest.approx(
        {
            "step": 0.1,
            "data_gap": 0.02,
            "sync_gap": 0.005,
            "launch_gap": 0.025,
            "exposed_communication": 0.025,
        }
    )


def test_kernels_and_waits_are_named():
    _, found = read(STEP)
    assert found.kernels == (("ncclKernel_AllReduce_RING_LL_Sum_float", 30, 1), ("gemm<float, 4>", 20, 1))
    assert found.waits == (("cudaStreamSynchronize in aten::to", 44, 1),)


def test_figures_are_means_over_the_steps():
    later = [{**each, "ts": each["ts"] + 100, "dur": each["dur"]} for each in STEP if each["cat"] != "kernel"]
    later[0]["name"] = "ProfilerStep#8"
    later = [{**each, "args": {}} for each in later]
    rows, found = read([*STEP, *later])
    assert (found.steps, found.kernel_us, found.data_us) == (2, 22.5, 20)
    assert rows["kernels"].tolist() == [45, 0]
    assert [calls for _, _, calls in found.waits] == [1]


def test_collectives_on_the_host_come_before_the_runtime():
    rows, _ = read(
        [
            event("user_annotation", "ProfilerStep#1", 0, 50),
            event("user_annotation", "nccl:all_reduce", 10, 30),
            event("cuda_runtime", "cudaLaunchKernel", 20, 40, correlation=1),
            event("kernel", "k", 22, 25, correlation=1),
        ]
    )
    assert (rows["collectives"].tolist(), rows["runtime"].tolist()) == ([17], [10])


def test_without_a_device_the_host_is_all_there_is():
    rows, found = read([each for each in STEP if each["cat"] in ("user_annotation", "cpu_op")])
    assert set(rows) == {"data", "operators"}
    assert (found.has_device, found.busy_share, found.overlap_share, found.launches_known) == (
        False, None, None, False,
    )  # fmt: skip
    assert (found.data_us, found.operator_us, found.launch_gap_us) == (20, 78, 0)


@pytest.mark.parametrize(
    ("name", "short"),
    [
        ("void gemm<int, (Kind)2>(float const*, void (*)(int))", "gemm<int, (Kind)2>"),
        ("ampere_sgemm_128x64_nn", "ampere_sgemm_128x64_nn"),
        ("at::(anonymous namespace)::f(int)", "at::(anonymous namespace)::f"),
        ("(odd)", "(odd)"),
        (")", ")"),
        ("", ""),
        ("k" * 200 + "()", "k" * 79 + "…"),
    ],
)
def test_names_of_kernels_lose_their_parameters(name, short):
    assert short_kernel_name(name) == short
