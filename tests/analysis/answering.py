"""Recorded outputs that are known by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from bench import store
from bench.analysis.drift import Answer, Pair
from bench.analysis.system import SystemRuns
from bench.records import Run
from tests.recorded import CONFIG, offline_run


def answer(ids: Sequence[int] = (1, 2, 3), text: str = "", *, ended: bool = True) -> Answer:
    return Answer(tuple(ids), text, ended)


def pair(
    own: Answer,
    reference: Answer,
    kind: str = "prose",
    *,
    opening: str = "",
    keys: Sequence[str] = (),
    digits: Sequence[str] = (),
) -> Pair:
    return Pair(
        kind=kind, opening=opening, keys=tuple(keys), digits=tuple(digits), own=own, reference=reference
    )


def said(own: str, reference: str, kind: str, **fields: Any) -> Pair:
    """Return a pair of which the texts matter alone."""
    return pair(answer(text=own), answer(text=reference), kind, **fields)


def scored_table(
    n: int = 4000, *, kl: float = 1e-3, worse: float = 1e-3, agree: float = 0.99, seed: int = 1
) -> dict[str, Any]:
    """Return columns of a quality pass: the system is `worse` nats worse on average."""
    rng = np.random.default_rng(seed)
    reference = rng.gamma(2.0, 1.0, n)
    return {
        "position": np.arange(1, n + 1, dtype=np.int32),
        "nll": reference + worse + rng.normal(0, 0.02, n),
        "ref_nll": reference,
        "kl": rng.exponential(kl, n),
        "agree": rng.random(n) < agree,
    }


def outputs_table(pairs: Sequence[Pair], prefix: str = "ref_") -> pa.Table:
    """Return pairs as `outputs.parquet` has them; with `again_`, the own answer is the baseline's second."""
    schema = store.outputs_schema()
    own = "" if prefix == "ref_" else "again_"
    reference = "ref_" if prefix == "ref_" else ""
    columns: dict[str, list[Any]] = {name: [None] * len(pairs) for name in schema.names}
    columns |= {
        "kind": [p.kind for p in pairs],
        "prompt": [str(i) for i in range(len(pairs))],
        "opening": [p.opening for p in pairs],
        "keys": [list(p.keys) for p in pairs],
        "digits": [list(p.digits) for p in pairs],
    }
    for start, answers in ((own, [p.own for p in pairs]), (reference, [p.reference for p in pairs])):
        columns |= {
            f"{start}ids": [list(a.ids) for a in answers],
            f"{start}text": [a.text for a in answers],
            f"{start}ended": [a.ended for a in answers],
        }
    return pa.table(columns, schema=schema)


def system(
    name: str,
    quality: Mapping[str, Any] | None,
    outputs: pa.Table | None = None,
    *,
    prompts: int = 0,
    **meta: Any,
) -> SystemRuns:
    """Return a system with its saturated job alone, which was asked for outputs of so many prompts."""
    config = CONFIG | {"quality": {"prompts": prompts}}
    run = offline_run(system=name, config=config, **meta)
    table = None if quality is None else pa.table(dict(quality))
    whole = Run(
        folder=run.folder,
        meta=run.meta,
        requests=run.requests,
        telemetry=run.telemetry,
        quality=table,
        outputs=outputs,
    )
    return SystemRuns(name=name, offline=whole, windows=[])
