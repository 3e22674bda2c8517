from dataclasses import replace

import pytest

from deblurkit.render.recommend_sheets import front_sheet, sheets

TITLES = [
    "From the start to the recommendation",
    "Single changes",
    "Three choices",
    "What was tried",
    "Why the others lost",
]


def by_title(found, **options):
    return {sheet.title: sheet for sheet in sheets(found, **options)}


def test_the_tables_come_in_the_order_in_which_they_are_read(recommendation):
    assert list(by_title(recommendation())) == TITLES


@pytest.mark.parametrize("language", ["en", "zh"])
def test_every_row_has_a_cell_for_each_column(recommendation, language):
    for sheet in [*sheets(recommendation(), language=language), front_sheet(recommendation())]:
        assert {len(row) for row in sheet.rows} == {len(sheet.head)}
        assert max(sheet.words) < len(sheet.head)


def test_the_seeds_columns_are_there(recommendation):
    steps, singles, three, *_ = by_title(recommendation()).values()
    assert dict(zip(steps.head, steps.rows[-1], strict=True)) == {
        "Configuration": "+ batch 3 x 2",
        "memory": "24.00 GiB",
        "step": "1,200 ms",
        "samples/s": "5.00",
        "90 % interval": "4.00 to 6.25",
        "epoch": "4 min 00 s",
        "50 epochs": "3 h 20 min",
        "gain": "2.00 x",
        "from": "measured",
    }
    assert dict(zip(singles.head, singles.rows[1], strict=True)) == {
        "Configuration": "only batch 3 x 2",
        "forward": "375 ms",
        "samples/s": "4.00",
        "gain": "1.60 x",
        "training": "same",
        "memory": "28.00 GiB",
        "from": "predicted",
    }
    assert [row[0] for row in three.rows] == ["fastest", "balanced", "least memory"]
    assert three.rows[1][1] == "optimizer adamw8bit; network half" and "ANOTHER" in three.rows[1]
    assert "6 clips / 1.2 s = 5.00 samples/s; 5.00 / 2.50 = 2.00 x" in steps.below[-1]


def test_trials_that_gave_no_figures_and_kept_ones_are_rows_too(recommendation):
    found = recommendation()
    kept = replace(found.trials[0], is_cached=True, peak_bytes=12 * 2**30)
    tried = by_title(replace(found, trials=(kept, *found.trials[1:])))["What was tried"]
    assert tried.rows[0] == ("start", "2,400 ms", "2.50", "12.00 GiB", "kept", "measured")
    assert tried.rows[-1] == (
        *("batch 6 x 1", "-", "-", "-", "12.0 s"),
        "out of memory: as 32.00 GiB are there",
    )


def test_trials_whose_memory_was_not_looked_at_have_no_column_for_it(recommendation):
    tried = by_title(recommendation())["What was tried"]
    assert tried.head == ("Trial", "step", "samples/s", "took", "outcome")
    assert {len(row) for row in tried.rows} == {5} and tried.words == {4}


def test_all_but_the_best_say_why_they_lost_and_what_is_hidden_is_counted(recommendation):
    lost = by_title(recommendation())["Why the others lost"]
    assert [row[0] for row in lost.rows] == [
        "optimizer adamw8bit; network half",
        "batch 3 x 2",
        "optimizer adamw8bit",
        "start",
        "batch 6 x 1",
    ]
    assert lost.rows[-1][-1] == "needs 40.00 GiB" and not lost.below
    few = by_title(recommendation(), most=2)["Why the others lost"]
    assert few.rows == lost.rows[:2] and few.below[0].startswith("and 3 more")


def test_a_start_that_does_not_fit_is_marked(recommendation):
    found = recommendation()
    start = replace(found.start, fits=False)
    steps = by_title(replace(found, start=start, path=(start, *found.path[1:])))[TITLES[0]]
    assert steps.rows[0][0] == "start (does not fit)"
    unknown = replace(start, peak_bytes=None)
    (steps, *_) = sheets(recommendation(best=None, start=unknown, path=(unknown,)))
    assert steps.rows[0][0] == "start (memory not known)"


def test_where_nothing_is_known_only_what_holds_something_is_shown(recommendation):
    found = recommendation(best=None, trials=(), rows=(), front=(), path=())
    assert list(by_title(found)) == TITLES[:2]


def test_chinese_titles_are_the_seeds(recommendation):
    assert list(by_title(recommendation(), language="zh"))[:3] == [
        "终极优化组合",
        "预期性能对比",
        "三种配置对比",
    ]


def test_the_front_is_numbered_as_in_the_picture(recommendation):
    assert front_sheet(recommendation()).rows == (
        ("1", "optimizer adamw8bit; network half", "12.00 GiB", "4.62", "3.69 to 5.77", "predicted"),
        ("2", "batch 3 x 2; optimizer adamw8bit", "24.00 GiB", "5.00", "4.00 to 6.25", "measured"),
    )
