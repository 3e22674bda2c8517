import pytest

from deblurkit.analysis import trace_records
from deblurkit.analysis.trace_records import TraceRecords, kind_of


@pytest.mark.parametrize(
    ("category", "name", "kind"),
    [
        ("kernel", "gemm", "kernel"),
        ("Kernel", "gemm", "kernel"),
        ("gpu_memcpy", "Memcpy DtoH (Device -> Pageable)", "copy"),
        ("Memcpy", "CopyDeviceToHost", "copy"),
        ("gpu_memset", "Memset (Device)", "fill"),
        ("Memset", "Memset (Device)", "fill"),
        ("cuda_runtime", "cudaLaunchKernel", "runtime"),
        ("Runtime", "cudaLaunchKernel", "runtime"),
        ("cuda_driver", "cuLaunchKernel", "runtime"),
        ("hip_runtime", "hipLaunchKernel", "runtime"),
        ("xpu_runtime", "piEnqueueKernelLaunch", "runtime"),
        ("cpu_op", "aten::add", "operator"),
        ("Operator", "aten::add", "operator"),
        ("user_annotation", "## forward ##", "annotation"),
        ("user_annotation", "ProfilerStep#12", "step"),
        ("Operator", "ProfilerStep#12", "step"),
        ("gpu_user_annotation", "ProfilerStep#12", None),
        ("user_annotation", "ProfilerStep#next", "annotation"),
        ("user_annotation", "enumerate(DataLoader)#_MultiProcessingDataLoaderIter.__next__", "data"),
        ("cpu_op", "enumerate(DataLoader)#_SingleProcessDataLoaderIter.__next__", "data"),
        ("cpu_op", "_MultiProcessingDataLoaderIter.__next__", "data"),
        ("user_annotation", "## data_load ##", "data"),
        ("user_annotation", "数据加载", "data"),
        ("user_annotation", "## all2all_data:kjt splits ##", "annotation"),
        ("cpu_op", "data", "operator"),
        ("user_annotation", "nccl:all_reduce", "collective"),
        ("cpu_op", "nccl:_all_gather_base", "collective"),
        ("user_annotation", "gloo:broadcast", "collective"),
        ("user_annotation", "nccl:all_to_all", "annotation"),
        ("cpu_op", "aten::reduce", "operator"),
        ("python_function", "train.py(12): step", None),
        ("ac2g", "ac2g", None),
        ("Trace", "PyTorch Profiler (0)", None),
        ("", "", None),
    ],
)
def test_todays_and_older_categories_are_known(category, name, kind):
    assert kind_of(category, name) == kind


def windows(events, size=3):
    return (events[at : at + size] for at in range(0, len(events), size))


def operator(name, start, duration, thread="1"):
    return ("cpu_op", name, "100", thread, start, duration, -1)


def test_of_many_operators_the_outermost_stay(monkeypatch):
    monkeypatch.setattr(trace_records, "_MOST_OPERATORS", 4)
    inner = [operator(f"inner{at}", at + 0.25, 0.5) for at in range(10)]
    outer = [
        operator("outer", 0.0, 5.0),
        operator("other", 5.0, 5.0),
        operator("thread", 2.0, 3.0, thread="2"),
    ]
    records = TraceRecords(windows([*inner, *outer, *inner]))
    spans = records.spans["operator"]
    names = {records.names[number] for number in spans.name}
    assert {"outer", "other", "thread"} <= names
    assert len(spans) < len(inner)
    covered = {(start, start + duration) for start, duration in zip(spans.start, spans.duration, strict=True)}
    assert {(0.0, 5.0), (5.0, 10.0), (2.0, 5.0)} <= covered


def test_devices_are_counted_by_where_kernels_ran():
    kernels = [("kernel", "k", device, "7", 0.0, 1.0, -1) for device in ("0", "1", "1")]
    assert TraceRecords(windows([*kernels, ("gpu_memset", "m", "5", "7", 0.0, 1.0, -1)])).devices() == 2
    assert TraceRecords(windows([operator("a", 1.0, 2.0)])).devices() == 0


def test_the_first_event_of_any_kind_is_the_beginning():
    events = [
        operator("a", 7.0, 1.0),
        ("kernel", "k", "0", "7", 5.0, 1.0, -1),
        ("ac2g", "f", "0", "7", 1.0, 1.0, -1),
    ]
    assert TraceRecords(windows(events)).first == 5.0
    assert TraceRecords(windows([])).first == 0.0
