import numpy as np
import pandas as pd
import pytest
from rich.cells import cell_len

from deblurkit.analysis.formats.timing_text import read_text_log
from deblurkit.analysis.report import analyze
from deblurkit.analysis.tables import Event, RunLog, TraceFigures
from deblurkit.render.analysis import report_as_text


def report_of(data_ms=5.0, name="前向传播"):
    blocks = "".join(
        f"{'=' * 80}\nStep {step}\n{'=' * 80}\n{name} : 100.00ms\n  - [bold]注意力 {'长' * 60} : 40.00ms\n"
        f"反向传播 : 200.00ms\n数据加载 : {data_ms:.2f}ms\nTotal : {300 + data_ms:.2f}ms\n"
        for step in range(1, 31)
    )
    return analyze(read_text_log(blocks.encode().split(b"\n"), source="outputs/运行 1/timing_1.log"))


@pytest.mark.parametrize("width", [60, 100])
def test_no_line_is_wider_than_asked_in_columns(width):
    text = report_as_text(report_of(data_ms=90.0), width=width)
    assert max(cell_len(line) for line in text.splitlines()) <= width
    assert "\x1b" not in text


def test_figures_stand_under_each_other_beside_chinese_names():
    lines = report_as_text(report_of()).splitlines()
    ends = {cell_len(line) for line in lines if line.startswith((" 前向传播", " 反向传播", " 数据加载"))}
    rows = [line for line in lines if line.startswith((" 反向传播", " 数据加载"))]
    assert len(rows) == 2
    assert len({cell_len(row) for row in rows}) == 1
    assert ends


def test_a_report_says_what_it_found():
    text = report_as_text(report_of(data_ms=90.0))
    assert "30 steps. A step takes 390 ms on average" in text
    assert "critical: Training waits for data. [data-bound]" in text
    assert "[bold]" in text  # a name, not markup
    assert "no wall time" in text
    assert "steps a second" not in text


def test_nothing_found_is_said():
    assert "No findings." in report_as_text(report_of())


def test_a_summary_has_no_percentiles():
    line = b"forward : avg= 280.00ms  min= 275.00ms  max= 290.00ms  (n=1000)"
    assert "1,000 steps. A step takes 280 ms on average." in report_as_text(
        analyze(read_text_log([line], source="x"))
    )


def test_a_report_can_be_read_aloud_the_verdict_first():
    lines = report_as_text(report_of(data_ms=90.0)).splitlines()
    assert lines[0] == "outputs/运行 1/timing_1.log"
    assert lines[1].startswith("Verdict: data-bound")
    order = ["1 finding", "    Cause: ", "    Remedy: ", "      --set ", "    Gain: ", " Phase ", "Notes"]
    places = [next(at for at, line in enumerate(lines) if line.startswith(words)) for words in order]
    assert places == sorted(places)
    assert not any(before == after == "" for before, after in zip(lines, lines[1:], strict=False))


def test_a_remedy_is_given_as_options_and_keys():
    text = report_as_text(report_of(data_ms=90.0))
    assert "\n      --set DATALOADER.TRAIN_PREFETCH_FACTOR=8\n" in text
    assert "\n      to your own value: DATALOADER.TOTAL_WORKERS\n" in text
    assert "Gain: 1.30 times as fast, 1.13 to 1.30 by the evidence;" in text  # 1 / (1 - 90 / 390)


def log_of(lengths=(), *, events=(), scalars=None, trace=None, epochs=np.nan):
    steps = pd.DataFrame(
        {
            "step": np.arange(1, len(lengths) + 1),
            "total_ms": np.asarray(lengths, dtype="float64"),
            "wall_known": True,
            "unix_s": np.nan,
            "count": 1,
            "epoch": epochs,
        }
    )
    times = pd.DataFrame({"forward": 0.5 * steps["total_ms"], "backward": 0.45 * steps["total_ms"]})
    return RunLog(
        "x.log", "basicsr", steps, times, len(steps), events=tuple(events), scalars=scalars or {}, trace=trace
    )


def test_what_changed_over_the_run_is_told_in_sentences():
    lengths = [100.0] * 200 + [200.0] * 200
    lengths[50] = 470.0
    text = report_as_text(analyze(log_of(lengths)))
    assert "From step 201 on a step takes 200 ms instead of 100 ms; forward makes up most of it." in text
    assert "1 step stands out: 51 (470 ms, forward +185 ms)." in text
    drifting = report_as_text(analyze(log_of(np.linspace(100, 140, 400))))
    assert "A step gets 100 ms longer every 1,000 steps" in drifting
    assert "Over the run" not in report_as_text(analyze(log_of([100.0] * 400)))


def test_events_and_numbers_of_a_log_without_steps():
    scalars = {
        "loss": pd.DataFrame({"step": [1.0, 2.0], "unix_s": np.nan, "value": [0.25, np.nan]}),
        "process_memory_bytes": pd.DataFrame({"step": [1.0], "unix_s": np.nan, "value": [3.0 * 2**30]}),
        "cache_hit_rate": pd.DataFrame({"step": [1.0], "unix_s": np.nan, "value": [0.5]}),
    }
    events = [Event("oom", "CUDA out of memory. <b>[red]", 3), *[Event("checkpoint", "saved", 1)] * 2]
    text = report_as_text(analyze(log_of(events=events, scalars=scalars)))
    assert "1 out of memory" in text and "2 checkpoints" in text
    assert "<b>[red]" in text
    assert "0.25" in text and "3.00 GiB" in text and "50.0 %" in text
    assert "Phase" not in text


def test_epochs_stand_beside_each_other():
    epochs = np.repeat([1.0, 2.0], 30)
    text = report_as_text(analyze(log_of(np.repeat([100.0, 120.0], 30), epochs=epochs)))
    [first, second] = [line.split() for line in text.splitlines() if line.startswith((" 1 ", " 2 "))]
    assert first == ["1", "30", "100", "ms", "100", "ms", "100", "ms"]
    assert second[2] == "120"


@pytest.mark.parametrize("width", [60, 100])
def test_names_of_kernels_are_cut_and_stay_text(width):
    spent = ("kernel", "communication", "exposed_communication", "copy", "data", "runtime", "operator")
    figures = {f"{what}_us": 100.0 for what in spent}
    trace = TraceFigures(
        steps=3,
        step_us=1_000.0,
        **figures,
        busy_share=0.1,
        launch_gap_us=700.0,
        sync_us=10.0,
        overlap_share=None,
        has_device=True,
        kernels=(("[bold]gemm<" + "x" * 300, 80.0, 4.0),),
        waits=(("cudaStreamSynchronize", 10.0, 2.0),),
        each=pd.DataFrame(0.0, range(3), ["data_gap", "sync_gap", "launch_gap", "exposed_communication"]),
    )
    text = report_as_text(analyze(log_of([1.0] * 3, trace=trace)), width=width)
    assert "[bold]gemm<" in text
    assert "…" in text
    assert "wait in cudaStreamSynchronize" in text
    assert max(map(cell_len, text.splitlines())) <= width
