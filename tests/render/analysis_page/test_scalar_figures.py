import numpy as np
import pandas as pd

from deblurkit.render.analysis_page.scalar_figures import scalar_figures

GIB = 1024**3


def figures_of(log, points=500):
    return {figure.title: figure for figure in scalar_figures(log, points=points)}


def test_numbers_are_grouped_by_what_they_are(make_log):
    log = make_log(
        {"forward": [1.0]},
        scalars={
            "loss": [1.0, 0.5],
            "loss/vgg": [0.2, 0.1],
            "process_memory_bytes": [GIB, 2.5 * GIB],
            "gpu_utilisation": [0.5, 0.9],
            "something else": [1.0, 2.0],
            "psnr_db": [30.0],  # a single value is no course
        },
    )
    figures = figures_of(log)
    assert list(figures) == ["Loss", "Memory", "Use of the machine, hits of the cache"]
    assert [trace["name"] for trace in figures["Loss"].data] == ["loss", "loss/vgg"]
    assert figures["Memory"].data[0]["y"] == [1, 2.5]
    assert figures["Use of the machine, hits of the cache"].data[0]["y"] == [50, 90]


def test_values_that_are_no_numbers_are_crosses(make_log):
    log = make_log({"forward": [1.0]}, scalars={"loss": [1.0, np.nan, 0.5, np.inf, 0.25]})
    figure = figures_of(log)["Loss"]
    line, crosses = figure.data
    assert (line["x"], line["y"]) == ([1, 3, 5], [1, 0.5, 0.25])
    assert crosses["x"] == [2, 4]
    assert figure.about == "2 values not finite: the crosses."


def test_of_steps_done_again_the_last_value_counts(make_log):
    log = make_log({"forward": [1.0]})
    again = pd.DataFrame({"step": [1.0, 2.0, 3.0, 2.0], "unix_s": np.nan, "value": [9.0, 8.0, 7.0, 6.0]})
    (line,) = figures_of(log.__class__(**{**vars(log), "scalars": {"loss": again}}))["Loss"].data
    assert (line["x"], line["y"]) == ([1, 2, 3], [9, 6, 7])


def test_values_without_steps_are_counted(make_log):
    log = make_log({"forward": [1.0]})
    unknown = pd.DataFrame({"step": np.nan, "unix_s": np.nan, "value": [3.0, 2.0]})
    (line,) = figures_of(log.__class__(**{**vars(log), "scalars": {"ssim": unknown}}))["SSIM"].data
    assert line["x"] == [1, 2]


def test_a_loss_that_falls_far_is_drawn_by_powers_of_ten(make_log):
    log = make_log({"forward": [1.0]}, scalars={"loss": [10.0, 0.01], "learning_rate": [1e-3, 1e-6]})
    figures = figures_of(log)
    assert figures["Loss"].layout["yaxis"]["type"] == "log"
    assert "type" not in figures["Learning rate"].layout["yaxis"]


def test_only_the_first_of_many_parts_are_drawn(make_log):
    scalars = {f"loss/{number}": [1.0, 2.0] for number in range(30)} | {"loss": [1.0, 2.0]}
    names = [
        trace["name"] for trace in figures_of(make_log({"forward": [1.0]}, scalars=scalars))["Loss"].data
    ]
    assert len(names) == 8
    assert names[0] == "loss"


def test_the_number_of_points_is_bounded(make_log):
    log = make_log({"forward": [1.0]}, scalars={"loss": np.linspace(1, 2, 40_000)})
    assert max(len(trace["x"]) for trace in figures_of(log, points=100)["Loss"].data) == 100
