from pathlib import Path

import pytest

import deblurkit
from deblurkit.analysis.rule_table import RULES
from deblurkit.config.load import load_config
from deblurkit.config.schema import known_keys

DOCS = Path(deblurkit.__file__).parents[1] / "docs" / "analyze-log.md"
SETTINGS = sorted(
    {setting for rule in RULES for remedy in rule.remedies.values() for setting in remedy.settings}
)


def test_every_id_of_the_plan_has_a_rule():
    planned = (
        "data-bound host-bound sync-bound compute-bound recompute communication straggler cache-too-small"
        " memory-creep divergence plateau learning-rate oom watchdog-timeout unaccounted-time stall"
    )
    assert {rule.id for rule in RULES} == set(planned.split())


@pytest.mark.parametrize("setting", SETTINGS)
def test_every_key_that_a_remedy_names_exists_and_takes_the_value(setting):
    key, _, value = setting.partition("=")
    assert key in known_keys()
    if value:
        load_config(None, None, [setting], warn=pytest.fail)  # raises where the value is none of its


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: f"{rule.id}-{rule.title}")
def test_a_rule_is_complete(rule):
    assert rule.critical >= rule.warning >= 0
    assert rule.source
    assert rule.title.endswith(".")
    assert "" in rule.remedies
    for remedy in rule.remedies.values():
        assert remedy.cause.endswith(".")
        assert remedy.advice.endswith((".", "`."))
        if remedy.avoidable is not None:
            assert 0 <= remedy.avoidable.low <= remedy.avoidable.likely <= remedy.avoidable.high <= 1


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: f"{rule.id}-{rule.title}")
def test_the_docs_name_every_rule(rule):
    assert f"| `{rule.id}` |" in DOCS.read_text(encoding="utf-8")
