"""Results as JSON documents, for programs: what the tables show, with nothing rounded.

A figure keeps its interval, its source and its note; one that was not measured is null, with the reason in
its note. What is not finite is null, too: JSON knows no infinity.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from bench.analysis.capacity import Conclusion
from bench.analysis.comparison import Comparison, Row
from bench.analysis.decide import Verdict
from bench.analysis.evaluation import Judged
from bench.analysis.metrics import METRICS
from bench.analysis.system import MetricSet
from bench.records import Value
from bench.report.gate import sentences
from bench.run.gate import GateReport, SystemGate


def systems_document(sets: Mapping[str, MetricSet]) -> dict[str, Any]:
    """Return every system's metrics, its client's verdict and the doubts."""
    return {name: _system(metrics) for name, metrics in sets.items()}


def comparisons_document(results: Iterable[Judged]) -> list[dict[str, Any]]:
    """Return each comparison with its verdict."""
    return [_comparison(result.comparison, result.verdict) for result in results]


def capacities_document(found: Mapping[str, Conclusion]) -> dict[str, Any]:
    """Return every system's capacity with the curve that it was found by."""
    return {
        name: {
            "capacity": value_document(each.capacity),
            "queue_stable_up_to": value_document(each.stable_rps),
            "monotone": each.monotone,
            "curve": msgspec.to_builtins(each.curve),
        }
        for name, each in found.items()
    }


def gate_document(report: GateReport) -> dict[str, Any]:
    """Return what the gate found of every system and metric."""
    return {
        "experiment": report.experiment,
        "run": report.run,
        "material_pct": report.material_pct,
        "systems": [_gated(system, report) for system in report.systems],
    }


def value_document(value: Value) -> dict[str, Any]:
    """Return one figure: `unresolved` says why it has no interval though it should have one."""
    return {
        "value": value.value,
        "low": value.low,
        "high": value.high,
        "confidence": None if value.low is None else value.confidence,
        "n": value.n,
        "source": value.source,
        "note": value.note,
        "unresolved": value.unresolved or None,
    }


def _system(metrics: MetricSet) -> dict[str, Any]:
    client = metrics.client
    return {
        "origin": metrics.origin,
        "saturated": metrics.saturated,
        "p95_unbounded": metrics.p95_unbounded,
        "validity": None if client is None else {"level": client.level, "reasons": client.reasons},
        "metrics": [_metric(name, value) for name, value in metrics.values.items()],
        "doubts": msgspec.to_builtins(metrics.doubts),
    }


def _metric(name: str, value: Value) -> dict[str, Any]:
    known = METRICS.get(name)
    label, unit = (known.label, known.unit) if known is not None else (name, "")
    return {"metric": name, "label": label, "unit": unit} | value_document(value)


def _comparison(comparison: Comparison, verdict: Verdict) -> dict[str, Any]:
    return {
        "baseline": comparison.baseline.name,
        "optimized": comparison.optimized.name,
        "verdict": {
            "decision": verdict.decision,
            "binding": verdict.binding,
            "advice": verdict.advice,
            "settle": verdict.settle or None,
            "guardrails": verdict.guardrails,
            "on_point_values": verdict.on_point_values,
            "score_pct": None if verdict.score is None else verdict.score.value,
            "gates": [
                {"gate": gate.name, "outcome": gate.outcome, "because": gate.text} for gate in verdict.gates
            ],
        },
        "rows": [_row(row) for row in comparison.rows.values()],
        "requests_per_day": comparison.requests_per_day,
        "per_day": msgspec.to_builtins(comparison.per_day),
        "tradeoffs": comparison.tradeoffs,
        "doubts": msgspec.to_builtins(comparison.doubts),
    }


def _row(row: Row) -> dict[str, Any]:
    return {
        "metric": row.name,
        "label": row.label,
        "unit": row.unit,
        "baseline": value_document(row.baseline),
        "optimized": value_document(row.optimized),
        "change": msgspec.to_builtins(row.change),
    }


def _gated(system: SystemGate, report: GateReport) -> dict[str, Any]:
    return {
        "system": system.system,
        "state": system.state,
        "baseline": None if system.baseline is None else system.baseline.run,
        "accepted": msgspec.to_builtins(system.accepted),
        "findings": [
            {
                "metric": found.metric,
                "outcome": "not judged" if found.judgement is None else found.judgement.outcome,
                "judgement": msgspec.to_builtins(found.judgement),
                "why": found.why or None,
            }
            for found in system.findings
        ],
        "sentences": sentences(system, report),
    }
