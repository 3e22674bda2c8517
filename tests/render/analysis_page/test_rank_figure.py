from dataclasses import replace

from deblurkit.analysis.findings import Finding
from deblurkit.render.analysis_page.rank_figure import rank_figure, runs_of_ranks


def ranks_of(make_report, *forward, folder="run"):
    return [
        make_report({"data": [1.0, 1.0], "forward": [ms, ms]}, rank=rank, source=f"{folder}/r{rank}")
        for rank, ms in enumerate(forward)
    ]


def test_logs_are_one_run_if_they_share_a_folder_and_name_their_ranks(make_report):
    pair, lone = ranks_of(make_report, 1.0, 2.0), ranks_of(make_report, 3.0, folder="other")
    unnamed = make_report({"forward": [1.0]}, source="run/x")
    assert runs_of_ranks([*pair[::-1], *lone, unnamed]) == {"run": pair}


def test_each_rank_has_a_bar_of_its_phases(make_report):
    ranks = ranks_of(make_report, 10.0, 14.0)
    slow = Finding("straggler", "warning", "t", "e", "r")
    figure = rank_figure([ranks[0], replace(ranks[1], findings=(slow,))])
    assert {trace["name"]: trace["x"] for trace in figure.data} == {"data": [1, 1], "forward": [10, 14]}
    assert figure.layout["yaxis"]["ticktext"] == ["rank 0", "rank 1, the slowest"]
