import json

import pytest
from rich.cells import cell_len

from deblurkit.config.sections.run import PromiseSection
from deblurkit.render.verification import verification_as_json, verification_as_text
from deblurkit.training.promise import PromiseOutcome
from deblurkit.training.run_evidence import RunEvidence
from deblurkit.training.verification import PROMISE_RULES, RULES, Check, verify

CHECKS = [
    Check("psnr", "pass", "27.00 dB, +2.00 dB", 2.0, ">= 0.01 dB", ""),
    Check("gpu_busy", "warn", "81.0 %", 81.0, ">= 90 %; fails < 50 %", "the GPU waits"),
    Check("finite", "fail", "the weights are NaN", None, "<= 0 %; fails > 5 %", "lower the rate"),
    Check("cache_hits", "unknown", "no cache", None, ">= 75 %; fails < 60 %", ""),
]


def test_a_row_for_each_check_then_advice_and_the_counts():
    title, heading, _, *rows = verification_as_text(CHECKS).splitlines()
    assert title == "Verification"
    assert heading.split() == ["measured", "limit"]
    assert rows == [
        " pass      PSNR              27.00 dB, +2.00 dB    >= 0.01 dB",
        " WARN      GPU utilisation   81.0 %                >= 90 %; fails < 50 %",
        " FAIL      no NaN or Inf     the weights are NaN   <= 0 %; fails > 5 %",
        " unknown   cache hit rate    no cache              >= 75 %; fails < 60 %",
        "WARN gpu_busy: the GPU waits",
        "FAIL finite: lower the rate",
        "verification: 1 passed, 1 warning, 1 failed, 1 unknown",
    ]


def test_columns_of_chinese_names_stand_below_one_another():
    rows = verification_as_text(CHECKS, language="zh").splitlines()[3:7]
    columns = [cell_len(row[: row.index(check.figure)]) for row, check in zip(rows, CHECKS, strict=True)]
    assert len(set(columns)) == 1
    assert "缓存命中率" in rows[3]


@pytest.mark.parametrize("language", ["en", "zh"])
def test_every_rule_has_a_name_of_its_own_and_fits(language):
    promised = PromiseSection.model_validate(
        {"LOW": 1.23, "SAMPLES_PER_SECOND": 1.3, "HIGH": 1.45, "PEAK_BYTES": 23 * 2**30}
    )
    outcome = PromiseOutcome(promised, 50, 1.31, 22 * 2**30, None)
    text = verification_as_text(verify(RunEvidence(promise=outcome)), language=language)
    rules = (*RULES, *PROMISE_RULES)
    assert not [rule.id for rule in rules if "_" in rule.id and rule.id in text]
    assert max(cell_len(line) for line in text.splitlines()) <= 100


def test_json_has_the_counts_and_a_row_for_each_check():
    document = json.loads(verification_as_json(CHECKS))
    assert document["format"] == "deblurkit-verification/1"
    assert document["counts"] == {"pass": 1, "warn": 1, "fail": 1, "unknown": 1}
    assert [(row["id"], row["verdict"], row["value"]) for row in document["checks"]] == [
        ("psnr", "pass", 2.0),
        ("gpu_busy", "warn", 81.0),
        ("finite", "fail", None),
        ("cache_hits", "unknown", None),
    ]
