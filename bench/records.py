"""The nouns: what flows along the path of the data. Frozen, without behaviour beyond small views.

Times are seconds on the run's one monotonic clock. `None` means *not measured*, never zero; the
reason stands in the run's `missing` table or in the `Value` itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import msgspec

if TYPE_CHECKING:
    import pyarrow as pa

Status = Literal["ok", "error", "timeout", "rejected"]
RunStatus = Literal["complete", "failed", "cancelled"]
Source = Literal["measured", "simulated", "replayed"]
ValueSource = Literal["measured", "derived", "assumed", "simulated", "replayed", "stated", "missing"]
Stop = Literal["exact", "natural"]
JobKind = Literal["offline", "window"]


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """One request as drawn before the run.

    `prompt_ids` are valid token ids; `text` is the prompt's text when it was cut from a corpus (the
    engine then tokenizes it, and the time counts). `stop = "exact"` makes the engine generate exactly
    `output_tokens` tokens whatever the model says; `"natural"` lets the end-of-sequence token end it.
    """

    uid: int
    due_s: float
    prompt_ids: tuple[int, ...]
    output_tokens: int
    text: str | None = None
    stop: Stop = "exact"


class Generation(msgspec.Struct, frozen=True, kw_only=True):
    """What an engine returns for one request of a batch.

    `token_s` holds the time at which each of the request's own tokens was known (its length is the
    number of tokens generated). `finished_s` is when the batch's generation returned to the engine's
    caller, i.e. the earliest moment at which the result could be handed back. `tokenized_s` and
    `detokenized_s` are the ends of those stages, None where no text was involved.
    `padded_tokens` counts token positions computed for this request's row without being asked for:
    left padding of the prompt, and decode steps past its own end.
    """

    uid: int
    token_ids: tuple[int, ...]
    token_s: tuple[float, ...]
    finished_s: float
    tokenized_s: float | None = None
    detokenized_s: float | None = None
    padded_tokens: int = 0


class Completion(msgspec.Struct, frozen=True, kw_only=True):
    """One request's outcome: a row of `requests.parquet`. There is exactly one per request.

    `queue_s + tokenize_s + prefill_s + decode_s + detokenize_s` is the latency `done_s - due_s`, a
    missing stage counting as absent. `admit_reason` says why the batch went when it did.
    `itl_ms` are the gaps between the request's consecutive tokens.
    """

    uid: int
    due_s: float
    sent_s: float | None
    admitted_s: float | None = None
    first_token_s: float | None = None
    done_s: float | None = None
    prompt_tokens: int = 0
    output_tokens: int = 0
    padded_tokens: int | None = None
    batch_id: int | None = None
    batch_size: int | None = None
    admit_reason: str | None = None
    status: Status = "ok"
    error: str | None = None
    tokenize_s: float | None = None
    queue_s: float | None = None
    prefill_s: float | None = None
    decode_s: float | None = None
    detokenize_s: float | None = None
    itl_ms: tuple[float, ...] | None = None


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """One reading of one field: a row of `telemetry.parquet`.

    `t_s` is the middle of the read, `read_s` what the read cost. `gpu_uuid` is None for host fields.
    """

    t_s: float
    read_s: float
    field: str
    value: float
    gpu_uuid: str | None = None


class Value(msgspec.Struct, frozen=True, kw_only=True):
    """A metric's value with its source, its doubt and, when missing, the reason.

    `low` and `high` bound the 95 % interval; None when none could be stated. `note` says how the
    number was obtained, or why it is missing.
    """

    value: float | None
    source: ValueSource
    note: str
    low: float | None = None
    high: float | None = None
    n: int | None = None


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """One recorded job: everything that its folder holds.

    `requests`, `telemetry` and `quality` are Arrow tables with the columns of `Completion`, `Sample`
    and of the quality pass (`position, nll, kl, agree`); `quality` is None where it was not run.
    `meta` is `run.json` as decoded.
    """

    folder: str
    meta: RunMeta
    requests: pa.Table
    telemetry: pa.Table
    quality: pa.Table | None = None


class Interval(msgspec.Struct, frozen=True, kw_only=True):
    """A span of the run's clock, in seconds."""

    start_s: float
    end_s: float


class RunMeta(msgspec.Struct, frozen=True, kw_only=True):
    """`run.json`: the job, its circumstances and what was found while it ran.

    `missing` maps a field or figure to the reason why it was not measured; `facts` holds the meters'
    and the model's description (device, memory API, treatment check, weights' bytes, load time);
    `window` is None for a job that never reached it.
    """

    schema: int
    status: RunStatus
    source: Source
    kind: JobKind
    system: str
    repeat: int
    config: dict[str, Any]
    written: dict[str, Any]
    provenance: dict[str, Any]
    device: Literal["cuda", "cpu"] | None
    offered_rps: float | None = None
    window: Interval | None = None
    treatment: dict[str, Any] = {}
    facts: dict[str, Any] = {}
    missing: dict[str, str] = {}
    doubts: list[str] = []
    error: str | None = None


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """What a running job tells whoever watches: its phase, how far it is, and figures so far.

    `total_s` is the phase's planned length, None where it cannot be known (loading).
    """

    job: str
    phase: str
    elapsed_s: float = 0.0
    total_s: float | None = None
    detail: str = ""
