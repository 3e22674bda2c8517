import numpy as np
import pytest

from deblurkit.analysis.trace_records import TraceRecords
from deblurkit.analysis.trace_timeline import timeline


def event(category, name, start, end, *, thread="1", process="100", link=-1):
    return (category, name, process, thread, float(start), float(end - start), link)


def step(number, start, end, **place):
    return event("user_annotation", f"ProfilerStep#{number}", start, end, **place)


def launch(link, start, end, *, thread="1", name="cudaLaunchKernel"):
    return event("cuda_runtime", name, start, end, thread=thread, link=link)


def kernel(link, start, end, *, category="kernel", name="gemm", stream="7"):
    return event(category, name, start, end, process="0", thread=stream, link=link)


def line_of(*events):
    return timeline(TraceRecords([events]))


def test_a_step_lasts_until_what_it_launched_has_ended():
    line = line_of(
        step(4, 100, 200), step(5, 200, 300), step(6, 300, 400),
        launch(1, 110, 112), kernel(1, 150, 250),
        launch(2, 220, 222), kernel(2, 250, 290),
    )  # fmt: skip
    assert line.numbers == (4, 5, 6)
    assert line.steps.tolist() == [[0, 150], [150, 200], [200, 300]]  # from the first event on
    assert line.annotated


def test_a_host_far_ahead_gives_each_step_its_time_on_the_device():
    line = line_of(
        *(step(n, 10 * n, 10 * n + 10) for n in range(3)),
        *(launch(n, 10 * n, 10 * n + 1) for n in range(3)),
        *(kernel(n, 100 * n, 100 * n + 100) for n in range(3)),
    )
    assert line.steps.tolist() == [[0, 100], [100, 200], [200, 300]]


def test_steps_in_any_order_and_twice_are_put_right():
    line = line_of(
        step(6, 200, 300), step(5, 100, 200), ("cpu_op", *step(5, 100, 200)[1:]), step(7, 300, 300)
    )
    assert line.numbers == (5, 6)
    assert line.steps.tolist() == [[0, 100], [100, 200]]


def test_the_steps_are_those_of_the_thread_that_has_most():
    line = line_of(step(1, 0, 10), step(2, 10, 20), step(1, 3, 13, process="200"))
    assert line.steps.tolist() == [[0, 10], [10, 20]]


def test_a_trace_without_steps_is_one():
    line = line_of(launch(1, 5, 7), kernel(1, 9, 29))
    assert (line.numbers, line.steps.tolist(), line.annotated) == ((1,), [[0, 24]], False)


def test_work_is_traced_back_to_the_first_call_with_its_number():
    line = line_of(launch(1, 0, 5), launch(1, 6, 7), launch(-1, 8, 9), kernel(1, 20, 30), kernel(3, 10, 12))
    assert line.device.tolist() == [[10, 12], [20, 30]]
    np.testing.assert_array_equal(line.launched, [np.nan, 0])
    assert not line.launches_known


@pytest.mark.parametrize(
    ("name", "communicates"),
    [
        ("ncclKernel_AllReduce_RING_LL_Sum_float(ncclWorkElem)", True),
        ("ncclDevKernel_SendRecv(ncclDevComm*, unsigned long, ncclWork*)", True),
        ("rcclGenericKernel", True),
        ("void cross_device_all_reduce_1stage<float>", True),
        ("void at::native::reduce_kernel<512, 1>", False),
        ("ampere_sgemm_128x64_nn", False),
        ("void SoftmaxWarpAllReduce<float>", False),
    ],
)
def test_communication_is_told_by_the_name_of_the_kernel(name, communicates):
    line = line_of(kernel(1, 0, 10, name=name))
    assert (len(line.communication), len(line.computing)) == (communicates, not communicates)


@pytest.mark.parametrize(
    ("name", "ends", "waits"),
    [
        ("cudaDeviceSynchronize", 11, True),
        ("cudaStreamSynchronize", 11, True),
        ("hipEventSynchronize", 11, True),
        ("cuCtxSynchronize", 11, True),
        ("cudaFree", 11, True),
        ("cudaMemcpy", 60, True),
        ("cudaMemcpyAsync", 60, True),  # returns when the copy has ended: from pageable memory
        ("cudaMemcpyAsync", 49, False),
        ("cudaMemsetAsync", 60, False),
        ("cudaEventRecord", 11, False),
        ("cudaStreamWaitEvent", 11, False),
        ("cudaEventQuery", 11, False),
        ("cudaFuncSetAttribute", 11, False),
    ],
)
def test_calls_that_wait_are_told_by_their_name_or_by_their_copy(name, ends, waits):
    copies = "Mem" in name
    line = line_of(
        launch(1, 0, 1),
        kernel(1, 1, 20),
        launch(2 if copies else -1, 10, ends, name=name),
        *([kernel(2, 40, 50, category="gpu_memcpy", name="Memcpy DtoH")] if copies else []),
    )
    assert line.waits.tolist() == ([[10, ends]] if waits else [])


def test_a_thread_that_launches_nothing_may_wait():
    """As the one that pins memory, or that watches collectives."""
    work = [part for n in range(30) for part in (launch(n, n, n + 0.5), kernel(n, n + 0.5, n + 1))]
    watching = launch(-1, 3, 9, thread="2", name="cudaEventSynchronize")
    copying = [launch(99, 9, 9.5, thread="2"), kernel(99, 30, 31)]
    assert len(line_of(*work, *copying, watching).waits) == 0
    assert len(line_of(*work, launch(-1, 3, 9, name="cudaEventSynchronize")).waits) == 1


def test_the_loader_counts_in_the_thread_of_the_steps_only():
    name = "enumerate(DataLoader)#_SingleProcessDataLoaderIter.__next__"
    own, other = event("cpu_op", name, 1, 3), event("cpu_op", name, 4, 9, thread="2")
    assert line_of(step(1, 0, 10), own, other).data.tolist() == [[1, 3]]
    assert line_of(event("cpu_op", "a", 0, 10), own, other).data.tolist() == [[1, 3], [4, 9]]
