"""The quality pass of a saturated job: held-out text scored, prompts continued, both beside the baseline.

The baseline leaves its logits, and its outputs, for the others to be held against. It is also held against
itself at another batch size: what that differs by is rounding, the floor under every difference of another
system. Both halves may fail on their own; what is missing then says why, and the rest of the job counts.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench import store
from bench.errors import ResultError
from bench.model.continuations import Continuation, continue_probes
from bench.model.kv_cache import KvCache
from bench.model.load import LoadedModel
from bench.model.probes import Probe, probes
from bench.model.scoring import has_logits, held_out_ids, score_heldout
from bench.run.drive import Emit
from bench.run.plan import Job
from bench.run.recording import Recording, first_line

if TYPE_CHECKING:
    import pyarrow as pa

WINDOWS_AGAIN = 4
"""Windows that the baseline computes at a time when it is held against itself; else one."""
OUTPUTS_BATCH = 32
"""Prompts that are continued together: the same for every system."""
OUTPUTS_AGAIN = 16
"""… and when the baseline is held against itself."""
ALONE = "there is no other system that its noise floor would be for"


def measure_quality(
    job: Job, recording: Recording, loaded: LoadedModel, cache: KvCache, logits: Path, emit: Emit
) -> None:
    """Score and continue as asked for; `logits` is the file of the baseline's logits.

    Never raises: what could not be measured is in `recording.missing` as `quality`, `outputs` `again` or
    `outputs_again`.
    """
    if recording.parts.experiment.model.weights == "random":
        why = "the weights are random: there is no output quality to measure"
        recording.missing |= dict.fromkeys(("quality", "outputs"), why)
        return
    emit("quality")
    _guarded(recording, "quality", lambda: _score(job, recording, loaded, cache, logits))
    emit("quality", detail="outputs")
    _guarded(recording, "outputs", lambda: _continue(job, recording, loaded, cache))


def _guarded(recording: Recording, name: str, measure: Callable[[], None]) -> None:
    """Run a part of the pass; where it fails, only this part is missing."""
    try:
        measure()
    except Exception as error:  # noqa: BLE001 - the capacity is measured; quality is missing, with the reason
        traceback.print_exc()
        recording.missing[name] = f"the quality pass failed: {first_line(error)}"


def _score(job: Job, recording: Recording, loaded: LoadedModel, cache: KvCache, logits: Path) -> None:
    """Score the held-out text."""
    experiment = recording.parts.experiment
    quality = experiment.quality
    if quality.tokens == 0:
        recording.missing["quality"] = "not asked for: quality.tokens = 0"
        return
    is_baseline = job.system == experiment.baseline
    if not is_baseline and not has_logits(logits):
        recording.missing |= dict.fromkeys(("kl", "agree"), "the baseline's quality pass left no logits")
    text = held_out_ids(loaded.vocabulary, quality.tokens)
    recording.facts |= {"quality_tokens": len(text.ids), "quality_note": text.note}

    def score(**options: Any) -> pa.Table:
        return score_heldout(loaded, text.ids, quality.window, quality.stride, cache=cache, **options)

    if not is_baseline:
        recording.quality = score(reference=logits if has_logits(logits) else None)
        return
    recording.quality = score(save_logits=logits)
    if len(experiment.systems) == 1:
        recording.missing["again"] = ALONE
        return

    def again() -> None:
        assert recording.quality is not None
        other = score(reference=logits, batch=WINDOWS_AGAIN)
        for name in ("nll", "kl", "agree"):
            recording.quality = recording.quality.append_column(f"again_{name}", other.column(name))
        recording.facts["quality_windows_again"] = WINDOWS_AGAIN

    _guarded(recording, "again", again)


def _continue(job: Job, recording: Recording, loaded: LoadedModel, cache: KvCache) -> None:
    """Continue the prompts."""
    experiment = recording.parts.experiment
    quality = experiment.quality
    if 0 in (quality.tokens, quality.prompts):  # without tokens no quality is asked for at all
        key = "tokens" if quality.tokens == 0 else "prompts"
        recording.missing["outputs"] = f"not asked for: quality.{key} = 0"
        return
    asked = probes(loaded.vocabulary, quality.prompts)
    recording.facts |= {"outputs_batch": OUTPUTS_BATCH, "outputs_new_tokens": quality.new_tokens}

    def answers(batch: int) -> list[Continuation]:
        return continue_probes(loaded, asked, quality.new_tokens, batch, cache, recording.clock)

    own = _columns("", answers(OUTPUTS_BATCH))
    recording.outputs = _table(asked, own)
    if job.system != experiment.baseline:
        path = Path(job.experiment_folder) / f"{experiment.baseline}.offline" / store.OUTPUTS_FILE
        recording.outputs = _table(asked, own | _reference(path, asked))
    elif len(experiment.systems) > 1:

        def again() -> None:
            recording.outputs = _table(asked, own | _columns("again_", answers(OUTPUTS_AGAIN)))
            recording.facts["outputs_again"] = OUTPUTS_AGAIN

        _guarded(recording, "outputs_again", again)


def _reference(path: Path, asked: Sequence[Probe]) -> dict[str, list[Any]]:
    """Return the baseline's answers as our `ref_` columns; ResultError where there are none."""
    if not path.exists():
        raise ResultError("the baseline's quality pass left no outputs")
    theirs = store.read_table(path)
    if theirs.column("prompt").to_pylist() != [probe.text for probe in asked]:
        raise ResultError("the baseline was given other prompts")
    return {f"ref_{name}": theirs.column(name).to_pylist() for name in ("ids", "text", "ended")}


def _columns(prefix: str, answers: Sequence[Continuation]) -> dict[str, list[Any]]:
    return {
        f"{prefix}ids": [answer.ids for answer in answers],
        f"{prefix}text": [answer.text for answer in answers],
        f"{prefix}ended": [answer.ended for answer in answers],
    }


def _table(asked: Sequence[Probe], answers: dict[str, list[Any]]) -> pa.Table:
    """Return prompts and answers as the table that `outputs.parquet` holds; what is not there is null."""
    import pyarrow as pa

    known = answers | {
        "kind": [probe.kind for probe in asked],
        "prompt": [probe.text for probe in asked],
        "opening": [probe.opening for probe in asked],
        "keys": [probe.keys for probe in asked],
        "digits": [probe.digits for probe in asked],
    }
    schema = store.outputs_schema()
    nothing = [None] * len(asked)
    return pa.table({name: known.get(name, nothing) for name in schema.names}, schema=schema)
