"""The quality gate: every outcome, from recorded outputs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import pytest

from bench.analysis.comparison import Comparison
from bench.analysis.drift import Pair
from bench.analysis.gate import Gate
from bench.analysis.guardrails import guardrails
from bench.analysis.metrics import METRICS
from bench.analysis.quality import AGAINST_REFERENCE, quality_of
from bench.analysis.quality_gate import output_quality
from bench.analysis.system import SystemRuns
from bench.config import Quality
from tests.analysis.answering import answer, outputs_table, pair, said, scored_table, system
from tests.analysis.pairs import pair as compared
from tests.recorded import ASSUMED, LIMITS, OBJECTIVES

GOOD = '{"customer": "Anna", "order": "12345", "issue": "late"}'
FORMATS: dict[str, Any] = {"keys": ("customer", "order", "issue"), "digits": ("12345",)}
ROWS = ("perplexity", *(name for name in AGAINST_REFERENCE if name in METRICS))


def rows_of(runs: SystemRuns) -> dict[str, Any]:
    return {name: METRICS[name].measure(runs, ASSUMED, OBJECTIVES) for name in ROWS}


def comparison(optimized: SystemRuns, baseline: SystemRuns | None = None) -> Comparison:
    """Return a comparison whose quality is that of these runs."""
    base = baseline or system("baseline", {"position": [1], "nll": [2.0]})
    found = compared()
    rows = dict(found.rows)
    one, two = rows_of(base), rows_of(optimized)
    for name in one:
        row = found.row("mean_kl")
        rows[name] = msgspec.structs.replace(row, name=name, baseline=one[name], optimized=two[name])
    return msgspec.structs.replace(
        found,
        rows=rows,
        baseline=msgspec.structs.replace(found.baseline, quality=quality_of(base)),
        optimized=msgspec.structs.replace(found.optimized, quality=quality_of(optimized)),
    )


def judged(pairs: Sequence[Pair] = (), limits: Quality = LIMITS, **scored: Any) -> Gate:
    outputs = outputs_table(pairs) if pairs else None
    return output_quality(comparison(system("optimized", scored_table(**scored), outputs)), limits)


def test_small_losses_pass_with_every_figure_and_its_limit() -> None:
    gate = judged(kl=1e-3, worse=1e-4, agree=0.99)
    assert gate.outcome == "pass"
    for text in ("perplexity ratio 0.9998", "at most 1.01", "mean KL 0.00099 nats", "at least 0.97"):
        assert text in gate.text


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"worse": 0.03}, "perplexity ratio 1.03"),
        ({"kl": 0.02}, "mean KL 0.02 nats"),
        ({"agree": 0.9}, "top-1 agreement 0.8960"),
    ],
)
def test_one_figure_beyond_its_limit_fails(changes: dict[str, Any], said: str) -> None:
    gate = judged(**changes)
    assert gate.outcome == "fail"
    assert gate.text.startswith(said)


def test_an_interval_over_its_limit_is_unclear_and_says_how_much_more_text() -> None:
    gate = judged(agree=0.972, n=800)
    assert gate.outcome == "unclear"
    assert "held-out text (quality.tokens about" in gate.settle


def test_the_limits_of_four_bits_pass_what_those_of_eight_fail() -> None:
    four = Quality(max_perplexity_ratio=1.05, max_mean_kl=5e-2, min_top1_agreement=0.9)
    assert judged(worse=0.02, kl=0.02, agree=0.95).outcome == "fail"
    assert judged(worse=0.02, kl=0.02, agree=0.95, limits=four).outcome == "pass"


def formats(lost: int, both: int) -> list[Pair]:
    return [said("I cannot", GOOD, "json", **FORMATS)] * lost + [said(GOOD, GOOD, "json", **FORMATS)] * both


def test_a_lost_format_fails_though_the_text_is_predicted_as_well() -> None:
    gate = judged(formats(30, 98))
    assert gate.outcome == "fail"
    assert "format kept less often" in gate.text


def test_formats_kept_on_too_few_prompts_are_unclear_and_on_enough_pass() -> None:
    few = judged(formats(0, 40))
    assert few.outcome == "unclear"
    assert "more prompts (quality.prompts about" in few.settle
    assert judged(formats(0, 128)).outcome == "pass"


def test_one_format_lost_by_chance_is_unclear_on_128_prompts_and_passes_on_the_defaults_512() -> None:
    assert judged(formats(1, 127)).outcome == "unclear"
    assert judged(formats(1, Quality().prompts * 4 // 5 - 1)).outcome == "pass"


def test_one_check_lost_fails_although_all_prompts_together_hide_it() -> None:
    fence = said("no code", "```\nx\n```", "fence")
    rest = [said(GOOD, GOOD, "json", **FORMATS)] * 600
    kept = [said("```\nx\n```", "```\nx\n```", "fence")] * 20
    gate = judged([fence] * 10 + kept + rest, Quality(max_format_drop=0.05))
    assert gate.outcome == "fail"
    assert gate.text.startswith("code fence closed")


def test_a_format_that_the_baseline_never_keeps_says_nothing_and_blocks_nothing() -> None:
    gate = judged([said("x", "y", "json", **FORMATS)] * 128)
    assert gate.outcome == "pass"
    part = next(part for part in gate.parts if part.name == "format_drop")
    assert part.outcome == "not informative"


def test_answers_that_became_longer_fail() -> None:
    pairs = [pair(answer(range(60 + i % 5)), answer(range(40 + i % 3))) for i in range(60)]
    gate = judged(pairs)
    assert gate.outcome == "fail"
    assert "length ratio 1.5" in gate.text


def floor_of(kl: float, agree: float = 0.99, pairs: Sequence[Pair] = ()) -> SystemRuns:
    table = scored_table(kl=kl, worse=0.0, agree=agree)
    outputs = outputs_table(pairs, "again_") if pairs else None
    again = {"position": table["position"], "nll": table["ref_nll"], "again_nll": table["nll"]}
    return system("baseline", again | {f"again_{name}": table[name] for name in ("kl", "agree")}, outputs)


def test_the_noise_floor_stands_beside_and_what_lies_within_it_says_so() -> None:
    optimized = system("optimized", scored_table(kl=1e-3, worse=0.0, seed=2))
    gate = output_quality(comparison(optimized, floor_of(2e-3)), LIMITS)
    part = next(part for part in gate.parts if part.name == "mean_kl")
    assert part.within_floor
    assert "floor 0.002" in gate.text
    above = output_quality(comparison(optimized, floor_of(1e-4)), LIMITS)
    assert not next(part for part in above.parts if part.name == "mean_kl").within_floor


def test_a_baseline_that_fails_against_itself_makes_the_measurement_void() -> None:
    optimized = system("optimized", scored_table())
    found = comparison(optimized, floor_of(0.02))
    gate = output_quality(found, LIMITS)
    assert gate.outcome == "not measured"
    assert gate.text.startswith("void: the baseline fails its own limits against itself")
    assert output_quality(found, LIMITS, waived=True).outcome == "waived"


def test_quality_that_was_not_measured_holds_unless_it_is_waived_by_name() -> None:
    found = compared({"mean_kl": "the weights are random: there is no output quality to measure"})
    gate = output_quality(found, LIMITS)
    assert gate.outcome == "not measured"
    assert "weights are random" in gate.text
    waived = output_quality(found, LIMITS, waived=True)
    assert waived.outcome == "waived"
    assert "weights are random" in waived.text


def test_waiving_hides_no_failure() -> None:
    found = comparison(system("optimized", scored_table(kl=0.05)))
    assert output_quality(found, LIMITS, waived=True).outcome == "fail"


def test_prompts_that_were_asked_for_and_could_not_be_continued_hold() -> None:
    why = {"outputs": "the quality pass failed: out of memory"}
    runs = system("optimized", scored_table(), prompts=160, missing=why)
    gate = output_quality(comparison(runs), LIMITS)
    assert gate.outcome == "not measured"
    assert "out of memory" in gate.text


def test_an_infinite_divergence_fails() -> None:
    table = scored_table()
    table["kl"][7] = float("inf")
    gate = output_quality(comparison(system("optimized", table)), LIMITS)
    assert gate.outcome == "fail"
    assert gate.text.startswith("mean KL inf nats")


def drifted(runs: SystemRuns, baseline: SystemRuns) -> str:
    """Return what the guardrails say of the drift, where nothing else calls for one."""
    found = comparison(runs, baseline)
    said = guardrails(found, [output_quality(found, LIMITS)], [], OBJECTIVES)
    return next((text for text in said if text.startswith("Outputs drift")), "")


def test_a_drift_within_the_measured_noise_floor_is_none() -> None:
    optimized = system("optimized", scored_table(kl=1e-3, worse=0.0, agree=0.99, seed=2))
    assert drifted(optimized, floor_of(2e-3, agree=0.985)) == ""
    assert "mean KL" in drifted(optimized, floor_of(1e-4))
    bare = system("baseline", {"position": [1], "nll": [2.0]})
    assert "mean KL 0.001 nats, same top token at 99." in drifted(optimized, bare)
    rounding = system("optimized", scored_table(kl=3e-6, worse=0.0, agree=0.999, seed=2))
    assert drifted(rounding, floor_of(0.0)) == ""  # the baseline did the very same sums again


def test_continued_prompts_that_differ_beyond_the_noise_floor_are_a_drift() -> None:
    same = [pair(answer((i, 2, 3)), answer((i, 2, 3))) for i in range(60)]
    other = [pair(answer((i, 9, 9)), answer((i, 2, 3))) for i in range(60)]
    base = floor_of(2e-3, agree=0.985, pairs=same)
    quiet = scored_table(kl=1e-3, worse=0.0, agree=0.99, seed=2)
    assert drifted(system("optimized", quiet, outputs_table(same)), base) == ""
    assert "edit distance of the continued prompts 0.67" in drifted(
        system("optimized", quiet, outputs_table(other)), base
    )


def test_figures_of_a_csv_are_judged_without_the_tables_behind_them() -> None:
    found = compared({"mean_kl": (0.02,)})
    bare = msgspec.structs.replace(found, optimized=msgspec.structs.replace(found.optimized, quality=None))
    assert output_quality(bare, LIMITS).outcome == "fail"
