"""What a log gives reason to change, and in one line what its steps are spent on."""

from __future__ import annotations

from deblurkit.analysis.evidence import Evidence
from deblurkit.analysis.findings import Finding
from deblurkit.analysis.rule_table import RULES
from deblurkit.analysis.rules.step_time import COMPUTE, COMPUTE_BOUND, FEED, feed_share, times_computing
from deblurkit.analysis.rules.trace import trace_verdict
from deblurkit.units import format_ms, format_share, plural

_DATA_BOUND = 0.2


def find(evidence: Evidence) -> list[Finding]:
    """Return what the rules find, critical ones first and one for each id; a healthy log gives none."""
    results = [rule.apply(evidence.steady if rule.stalls_aside else evidence) for rule in RULES]
    return by_severity([finding for finding in results if finding is not None])


def by_severity(findings: list[Finding]) -> list[Finding]:
    """Return findings, critical ones first; of those with one id the first one."""
    first: dict[str, Finding] = {}
    for finding in sorted(findings, key=lambda finding: finding.severity != "critical"):
        first.setdefault(finding.id, finding)
    return list(first.values())


def verdict(evidence: Evidence) -> str:
    """Return in one line what a step is spent on, rare stalls aside, or why the log cannot tell."""
    if evidence.trace is not None:
        return trace_verdict(evidence.trace)
    evidence = evidence.steady
    if not len(evidence.step_ms):
        return "undetermined: the log does not tell how long a step takes"
    aside = f" ({plural(evidence.stalls_aside, 'stall')} aside)" if evidence.stalls_aside else ""
    step, feed = format_ms(evidence.mean_step_ms), feed_share(evidence) or 0.0
    if feed > _DATA_BOUND:
        return f"data-bound: waiting for data is {format_share(feed)} of a {step} step{aside}"
    if not (evidence.has("forward") and evidence.has("backward")):
        return _verdict_of_a_part(evidence)
    whole = f"a {step} step{aside}" if evidence.wall_known else f"the {step} a step that the log lists{aside}"
    compute = evidence.share(*COMPUTE)
    if compute >= COMPUTE_BOUND:
        named = " + ".join(role for role in COMPUTE if evidence.has(role))
        data = f"data {format_share(feed)}" if evidence.has("data") else "data was not logged"
        return f"compute-bound: {named} are {format_share(compute)} of {whole}; {data}"
    longest = [f"{name} {format_share(share)}" for name, share in list(evidence.shares.items())[:3]]
    return f"mixed: no phase decides {whole}; the longest are {', '.join(longest)}"


def _verdict_of_a_part(evidence: Evidence) -> str:
    missing = [role for role in ("data", "forward", "backward", "optimizer") if not evidence.has(role)]
    rows = " or ".join(filter(None, (", ".join(missing[:-1]), missing[-1])))
    step = format_ms(evidence.mean_step_ms)
    if not evidence.shares:
        return f"undetermined: the log has no row for {rows}; a step takes {step}"
    if "data" not in missing and not times_computing(evidence):
        data = format_share(evidence.share(*FEED))
        rest = "and the log does not split the rest"
        return f"not data-bound: waiting for data is {data} of a {step} step, {rest}"
    name, share = next(iter(evidence.shares.items()))
    return (
        f"undetermined: the log has no row for {rows};"
        f" {name} is {format_share(float(share))} of the {step} a step that it"
        f" {'covers' if evidence.wall_known else 'lists'}"
    )
