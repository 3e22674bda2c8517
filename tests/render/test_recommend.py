from dataclasses import replace

from rich.cells import cell_len

from deblurkit.render.recommend import WIDTH, facts, recommendation_as_text, trial_line, verification_words
from deblurkit.tuning.recommend.records import Budget, Trial, Verification


def test_the_recommendation_comes_first_with_what_it_rests_on(recommendation):
    assert list(facts(recommendation(learning_rate="LR stays"))) == [
        "For 2 x CPU <b>é | x</b>; within 32.00 GiB of device memory",
        "batch 3 x 2; optimizer adamw8bit",
        "5.00 samples/s (90 % interval 4.00 to 6.25; measured)",
        "24.00 GiB of 32.00 GiB of memory",
        "6 clips / 1.2 s = 5.00 samples/s; 5.00 / 2.50 = 2.00 x as fast as the start",
        "training: the same sums as the start's, other digits (16-bit products or 8-bit states)",
        "learning rate: LR stays",
        "--set TRAIN.BATCH_SIZE=3 --set TRAIN.GRADIENT_ACCUMULATION_STEPS=2 --set TRAIN.OPTIM.TYPE=adamw8bit",
        "6 configurations, 5 fit; 4 trials; the search ended: no other is likely to be 2 % faster",
    ]


def test_a_prediction_another_result_and_several_gpus_are_said_aloud(recommendation):
    found = recommendation(is_prediction=True, budget=Budget(host_bytes=2**33))
    candidate = replace(found.rows[1].candidate, devices=4)
    said = list(facts(replace(found, best=replace(found.rows[1], candidate=candidate))))
    assert said[0].endswith("within 8.00 GiB of host memory")
    assert said[1] == "PREDICTION: no step was measured on this card"
    assert any(line.startswith("training: ANOTHER RESULT") for line in said)
    assert "train with --gpus 4" in said


def test_the_start_may_be_the_best(recommendation):
    found = recommendation()
    said = list(facts(replace(found, best=found.start, path=(found.start,))))
    assert said[1] == "start" and "the configuration as it was given: nothing to change" in said
    assert not [line for line in said if "as fast as" in line]


def test_where_nothing_fits_the_least_need_is_said(recommendation):
    assert "NOTHING FITS: the least needs 12.00 GiB" in list(facts(recommendation(best=None)))
    assert "NOTHING FITS" in list(facts(recommendation(best=None, rows=())))


def test_configurations_whose_memory_is_not_known_are_told_from_those_that_do_not_fit(recommendation):
    found = recommendation()
    unknown = tuple(replace(row, peak_bytes=None, fits=False) for row in found.rows[2:])
    said = list(facts(replace(found, rows=(*found.rows[:2], *unknown))))
    assert [
        line
        for line in said
        if line.startswith("6 configurations, 2 are known to fit, of 4 the memory is not known;")
    ]
    assert not [line for line in facts(found) if "not known;" in line]


def test_a_start_of_which_nothing_is_known_has_no_figures(recommendation):
    found = recommendation()
    best = replace(found.start, estimate=None, peak_bytes=None, verdict="as it was given")
    said = list(facts(replace(found, best=best, start=best, stopped="interrupted", is_stopgap=True)))
    assert said[1:4] == ["start", "its speed is not known", "as it was given"]
    assert not [line for line in said if "- samples/s" in line or "- of" in line]


def test_the_whole_report_keeps_its_width_in_either_language(recommendation):
    found = recommendation(loading_words=("a clip takes 0.1 s",))
    for language in ("en", "zh"):
        lines = recommendation_as_text(found, language=language).splitlines()
        assert max(map(cell_len, lines)) <= WIDTH
        assert any("a note with | and <i>" in line for line in lines)
        assert any("a clip takes 0.1 s" in line for line in lines)


def test_columns_under_chinese_titles_are_aligned(recommendation):
    lines = recommendation_as_text(recommendation(), language="zh").splitlines()
    first = lines.index("三种配置对比") + 2
    ends = [
        cell_len(line[: line.index(mark)])
        for line, mark in zip(
            (lines[first], lines[first + 2], lines[first + 3]), ("来源", "实测", "预测"), strict=True
        )
    ]
    assert len(set(ends)) == 1


def test_a_verification_says_whether_the_promise_was_kept():
    checked = Verification((2.0, 1.6, 2.5), measured=1.9, low=1.8, high=2.1, rounds=3, keeps=True)
    assert verification_words(checked) == (
        "Verified: promised 2.00 x (1.60 x to 2.50 x), measured 1.90 x (1.80 x to 2.10 x) in 3 rounds: kept"
    )
    assert verification_words(replace(checked, keeps=False)).endswith("MISSED")


def test_a_trial_gets_a_line(recommendation):
    found = recommendation()
    killed = Trial("k", "timed out", "after 300 s", 300.0)
    words = "optimizer adamw; network as it is"
    assert trial_line(1, found.start.candidate, killed, None) == (
        f"trial 1 (batch 1 x 6; {words}): timed out: after 300 s in 5 min 00 s"
    )
    line = trial_line(2, found.start.candidate, replace(found.trials[0], is_cached=True), found.best)
    assert line == (
        f"trial 2 (batch 1 x 6; {words}): measured kept, 2,400 ms a step; best 5.00 samples/s (batch 3 x 2;"
        " optimizer adamw8bit; network as it is)"
    )
