from __future__ import annotations

import io
from collections.abc import Sequence

import msgspec
import pytest
from rich.console import Console, RenderableType

from bench.analysis.compare import compare
from bench.analysis.comparison import Comparison
from bench.analysis.decide import Verdict, decide
from bench.analysis.metric_set import metric_set
from bench.analysis.metrics import METRICS
from bench.analysis.numbers import shown
from bench.analysis.system import Batching, Doubt, MetricSet
from bench.records import Value
from bench.report.cells import differences
from bench.report.tables import render_comparison, to_markdown
from tests.recorded import ASSUMED, LIMITS, OBJECTIVES, quality, system_runs


def judged(baseline: MetricSet, optimized: MetricSet) -> tuple[Comparison, Verdict]:
    comparison = compare(baseline, optimized, ASSUMED, OBJECTIVES)
    return comparison, decide(comparison, OBJECTIVES, LIMITS)


def measured(name: str, latencies_s: Sequence[float], rps: float, device: str = "cuda") -> MetricSet:
    facts = {"gpu_name": "NVIDIA H200" if device == "cuda" else None}
    table = quality(kl=2e-3, agree=0.98, n=1000)
    runs = system_runs(name, latencies_s, rps=10.0 * rps, n=80, table=table, device=device, facts=facts)
    return metric_set(runs, ASSUMED, OBJECTIVES, origin=f"runs/{name}")


@pytest.fixture(scope="module")
def pair() -> tuple[Comparison, Verdict]:
    return judged(measured("baseline", (0.5, 0.51, 0.49), 2), measured("optimized", (0.4, 0.41, 0.39), 3))


def plain_text(renderable: RenderableType, width: int = 80) -> str:
    console = Console(file=io.StringIO(), width=width, color_system=None, force_terminal=False)
    console.print(renderable)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def flat(text: str) -> str:
    """Undo the wrapping, so that a sentence can be looked for."""
    return " ".join(text.split())


def test_the_report_fits_eighty_columns_without_colour(pair: tuple[Comparison, Verdict]) -> None:
    text = plain_text(render_comparison(*pair))
    assert max(len(line.rstrip()) for line in text.splitlines()) <= 80
    assert "\x1b" not in text
    assert "…" not in text, "nothing is cut off"


def test_the_table_shows_both_values_the_change_its_interval_and_the_source(
    pair: tuple[Comparison, Verdict],
) -> None:
    lines = plain_text(render_comparison(*pair)).splitlines()
    row = next(i for i, line in enumerate(lines) if "p95 latency, ms" in line)
    assert lines[row].split() == ["p95", "latency,", "ms", "500", "400", "-20.0", "%", "better", "measured"]
    assert "(-21.0 to -19.0 %)" in lines[row + 1]


def test_the_verdict_stands_with_its_binding_reason_and_the_scores_weights(
    pair: tuple[Comparison, Verdict],
) -> None:
    text = flat(plain_text(render_comparison(*pair), width=200))
    assert "ADOPT WITH GUARDRAILS" in text
    assert "throughput rises by 50.0 %" in text
    assert "Score (secondary)" in text
    assert "p95 latency 25 %" in text


def test_guardrails_tradeoffs_differences_and_doubts_are_all_there(
    pair: tuple[Comparison, Verdict],
) -> None:
    comparison, verdict = pair
    text = flat(plain_text(render_comparison(comparison, verdict, every=True), width=400))
    for sentence in (*verdict.guardrails, *comparison.tradeoffs, *comparison.findings):
        assert flat(sentence) in text
    for doubt in comparison.doubts:
        assert doubt.text in text
        assert f"Remedy: {doubt.remedy}" in text
    assert "precision.kind: fp16 against int8" in text


def test_the_client_has_a_line_for_each_system(pair: tuple[Comparison, Verdict]) -> None:
    rate = "VALID, realised 8 of 8 requests/s (80 due, 80 sent)"
    line = f"{rate}, largest lag 0.2 ms (pacer 0.05, interpreter 0.15)"
    text = flat(plain_text(render_comparison(*pair, every=True), width=200))
    assert f"Client and device - baseline: {line} - optimized: {line}" in text
    assert f"- baseline: {line}" in to_markdown(*pair).splitlines()


def test_batch_sizes_and_reasons_stand_as_shares() -> None:
    sides = [measured(name, (0.5, 0.5), 2) for name in ("baseline", "optimized")]
    batching = Batching(
        p50_size=4.0,
        p90_size=8.0,
        sizes={"4": 0.875, "8": 0.125},
        admitted={"size": 0.75, "window": 0.25},
        waited={"busy": 1.0},
    )
    sides[1] = msgspec.structs.replace(sides[1], batching=batching)
    text = to_markdown(*judged(*sides)).splitlines()
    assert "- baseline: size p50 1, p90 1; 1: 100 %" in text
    assert "- optimized: size p50 4, p90 8; 4: 87.5 %, 8: 12.5 %" in text
    said = "batches started when the batch was full: 75 %, the time to wait was over: 25 %"
    assert f"- optimized: {said}" in text
    assert "- optimized: waited last for the engine: 100 %" in text


def test_files_that_say_nothing_of_client_and_batches_have_no_such_lines() -> None:
    values = {name: Value(value=1.0, source="stated", note="") for name in list(METRICS)[:6]}
    bare = MetricSet(name="a", origin="a.csv", values=values, bare=True)
    text = to_markdown(*judged(bare, bare))
    assert "**Client**" not in text
    assert "**Batching**" not in text
    assert "| client |" not in text


def test_what_was_not_measured_is_listed_once_per_reason() -> None:
    comparison, verdict = judged(
        measured("baseline", (0.5, 0.5), 2, "cpu"), measured("optimized", (0.5, 0.5), 2, "cpu")
    )
    text = flat(plain_text(render_comparison(comparison, verdict, every=True), width=400))
    assert "CO2e per 1k; SCI per 1k: no GPU in use" in text
    assert "HOLD" in text
    lines = plain_text(render_comparison(comparison, verdict)).splitlines()
    energy = next(line for line in lines if "energy per 1k" in line)
    assert energy.split() == ["energy", "per", "1k,", "kWh", "-", "-", "-", "missing"]


def test_what_a_days_energy_holds_is_said_below_it(pair: tuple[Comparison, Verdict]) -> None:
    note = "energy, CO2e: at the measured rate; idle time of the replicas is not in it."
    assert note in flat(plain_text(render_comparison(*pair)))
    assert note in to_markdown(*pair).splitlines()


def test_names_are_never_read_as_markup() -> None:
    values = {name: Value(value=1.0, source="measured", note="") for name in list(METRICS)[:6]}
    doubt = Doubt(key="k", text="model [red]x[/red] is odd", remedy="")
    one = MetricSet(name="[bold]a[/bold]", origin="a.csv", values=values, doubts=(doubt,))
    two = MetricSet(
        name="[/nonsense]", origin="b.csv", values=values | {"[i]mine[/i]": values["p50_latency_ms"]}
    )
    comparison, verdict = judged(one, two)
    text = plain_text(render_comparison(comparison, verdict), width=160)
    for literal in ("[bold]a[/bold]", "[/nonsense]", "[i]mine[/i]", "[red]x[/red]"):
        assert literal in text


def test_markdown_holds_the_same_and_escapes_its_marks(pair: tuple[Comparison, Verdict]) -> None:
    comparison, verdict = pair
    text = to_markdown(comparison, verdict)
    assert text.startswith("**Adopt with guardrails**: throughput rises by 50.0 %")
    assert "| p95 latency, ms | 500 | 400 | -20.0 % better | -21.0 to -19.0 % | measured |" in text
    assert "| energy, kWh | " in text
    assert "**Doubts**" in text
    for gate in verdict.gates:
        assert f"| {gate.name} | {gate.outcome} | " in text
    assert verdict.score is not None
    assert f"Score (secondary): {verdict.score.value:+.1f} %, weights: p95 latency 25 %" in text
    for title in ("Guardrails", "Tradeoffs", "Doubts"):
        assert f"**{title}**" in text
    odd = MetricSet(name="a|b*c", origin="o", values={"m|x": Value(value=1.0, source="stated", note="")})
    escaped = to_markdown(*judged(odd, odd))
    assert r"a\|b\*c" in escaped
    assert r"m\|x" in escaped


def test_what_would_settle_the_verdict_is_said_in_both() -> None:
    comparison, verdict = judged(
        measured("baseline", (0.5, 0.5, 0.5), 2), measured("optimized", (1.1, 1.15, 1.25), 3)
    )
    assert verdict.decision == "not enough evidence"
    line = f"To settle it: {verdict.settle}."
    assert f"\n{verdict.advice} {line}\n" in to_markdown(comparison, verdict)
    assert f"{verdict.advice} │ │ {line}" in flat(
        plain_text(render_comparison(comparison, verdict), width=300)
    )


def test_a_short_report_leaves_detail_to_all_and_ends_with_the_verdict_and_what_to_do() -> None:
    batching = Batching(p50_size=4.0, p90_size=8.0, sizes={"4": 1.0}, admitted={"size": 1.0}, waited={})
    noted = tuple(Doubt(key=f"k{n}", text=f"doubt {n}", remedy=f"cure {n}") for n in range(6))
    sides = [measured(name, (0.5, 0.5, 0.5), 2, "cpu") for name in ("baseline", "optimized")]
    sides = [msgspec.structs.replace(side, batching=batching, doubts=noted) for side in sides]
    comparison, verdict = judged(*sides)
    short, whole = (
        flat(plain_text(render_comparison(comparison, verdict, every=every), width=300))
        for every in (False, True)
    )
    for detail in ("Batching", "Client and device", "Not measured", "Remedy: cure 1", "doubt 5"):
        assert detail not in short
        assert detail in whole
    assert f"- {comparison.doubts[0].text}." in short
    assert f"and {len(comparison.doubts) - 3} more: --all, or the page." in short
    for text in (short, whole):
        assert text.rstrip().endswith(f"{verdict.decision.upper()}. {verdict.advice}")


def test_the_replicas_of_a_days_volume_stand_beside_its_cost(pair: tuple[Comparison, Verdict]) -> None:
    row = pair[0].row("replicas")
    assert row.baseline.value is not None
    assert row.optimized.value is not None
    saved = shown(row.baseline.value - row.optimized.value)
    line = f"| replicas needed | {shown(row.baseline.value)} | {shown(row.optimized.value)} | {saved} |"
    assert line in to_markdown(*pair).splitlines()


def test_options_that_come_with_a_kind_at_their_defaults_are_no_difference() -> None:
    plain = {"batching.kind": "none", "precision.kind": "fp16"}
    dynamic = {
        "batching.kind": "dynamic",
        "batching.max_size": 8,
        "batching.preferred_sizes": [],
        "batching.look_ahead": 3,
        "batching.settle_ms": 0.0,
        "precision.kind": "int8",
        "precision.threshold": 6.0,
    }
    sides = []
    for name, settings in (("baseline", plain), ("optimized", dynamic)):
        side = measured(name, (0.5, 0.5), 2)
        assert side.context is not None
        context = msgspec.structs.replace(side.context, settings=settings)
        sides.append(msgspec.structs.replace(side, context=context))
    forth = [
        "batching.kind: none against dynamic",
        "precision.kind: fp16 against int8",
        "batching.max_size: not set against 8",
        "batching.look_ahead: not set against 3",
    ]
    assert differences(judged(*sides)[0]) == forth
    back = differences(judged(*reversed(sides))[0])
    assert back == [
        "batching.kind: dynamic against none",
        "batching.max_size: 8 against not set",
        "batching.look_ahead: 3 against not set",
        "precision.kind: int8 against fp16",
    ]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "-"),
        (0.0, "0"),
        (420.0, "420"),
        (0.000012345, "0.00001234"),
        (123456.7, "123457"),
        (99.999, "100"),
    ],
)
def test_numbers_are_plain_with_four_digits(value: float | None, text: str) -> None:
    assert shown(value) == text
