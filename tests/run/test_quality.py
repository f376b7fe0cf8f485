"""The quality pass of a job: what it claims to have done, it has done."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest

from bench.config import Quality
from bench.model.continuations import Continuation
from bench.model.kv_cache import Dynamic, Quantized
from bench.model.probes import Probe
from bench.run import quality
from bench.run.quality import OUTPUTS_AGAIN, WINDOWS_AGAIN, measure_quality

PROBE = Probe(kind="prose", text="?", ids=(1,))


def recorded(monkeypatch: pytest.MonkeyPatch, failing: int, cache: Any = None) -> tuple[Any, list[Any]]:
    """Return what the baseline's pass recorded where batches of `failing` fail, and the caches it used."""
    caches = []

    def score(*_: Any, batch: int = 1, cache: Any = None, **__: Any) -> pa.Table:
        caches.append(cache)
        if batch == failing:
            raise RuntimeError("out of memory")
        return pa.table({"position": [1], "nll": [2.0], "kl": [0.0], "agree": [True]})

    def answers(_: Any, asked: Any, __: Any, batch: int, *___: Any) -> list[Continuation]:
        if batch == failing:
            raise RuntimeError("out of memory")
        return [Continuation(ids=(1,), text="x", ended=True) for _ in asked]

    monkeypatch.setattr(quality, "score_heldout", score)
    monkeypatch.setattr(quality, "continue_probes", answers)
    monkeypatch.setattr(quality, "held_out_ids", lambda *_: SimpleNamespace(ids=(1, 2), note=None))
    monkeypatch.setattr(quality, "probes", lambda *_: [PROBE])
    experiment = SimpleNamespace(
        quality=Quality(), baseline="a", systems={"a": 1, "b": 2}, model=SimpleNamespace(weights="pretrained")
    )
    recording: Any = SimpleNamespace(
        parts=SimpleNamespace(experiment=experiment),
        missing={},
        facts={},
        quality=None,
        outputs=None,
        clock=None,
    )
    job: Any = SimpleNamespace(system="a", experiment_folder="")
    loaded: Any = SimpleNamespace(vocabulary=None)
    measure_quality(job, recording, loaded, cache or Dynamic(), Path("logits.npy"), lambda *_, **__: None)
    return recording, caches


@pytest.mark.parametrize(
    ("failing", "absent", "kept", "reason"),
    [
        (WINDOWS_AGAIN, "quality_windows_again", "outputs_again", "again"),
        (OUTPUTS_AGAIN, "outputs_again", "quality_windows_again", "outputs_again"),
    ],
)
def test_a_noise_floor_that_failed_is_not_recorded_as_made(
    monkeypatch: pytest.MonkeyPatch, failing: int, absent: str, kept: str, reason: str
) -> None:
    recording, _ = recorded(monkeypatch, failing)
    assert absent not in recording.facts
    assert kept in recording.facts
    assert "out of memory" in recording.missing[reason]
    assert recording.quality is not None
    assert recording.outputs is not None


def test_the_text_is_scored_through_the_systems_own_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    cache = Quantized(backend="fp8")
    _, caches = recorded(monkeypatch, 0, cache)
    assert caches == [cache, cache]
