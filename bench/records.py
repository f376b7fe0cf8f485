"""The nouns: what flows along the path of the data. Frozen, without behaviour beyond small views.

Times are seconds on the run's one monotonic clock. `None` means *not measured*, never zero; the
reason stands in the run's `missing` table or in the `Value` itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import msgspec

if TYPE_CHECKING:
    import pyarrow as pa

Status = Literal["ok", "error", "timeout", "rejected"]
RunStatus = Literal["complete", "failed", "cancelled"]
Source = Literal["measured", "simulated", "replayed"]
ValueSource = Literal["measured", "derived", "assumed", "simulated", "replayed", "stated", "missing"]
Stop = Literal["exact", "natural"]
JobKind = Literal["offline", "capacity", "window"]


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """One request as drawn before the run.

    `prompt_ids` are valid token ids; `text` is the prompt's text when it was cut from a corpus (the
    engine then tokenizes it, and the time counts). `stop = "exact"` makes the engine generate exactly
    `output_tokens` tokens whatever the model says; `"natural"` lets the end-of-sequence token end it.
    """

    uid: int
    due_s: float
    prompt_ids: Sequence[int]
    output_tokens: int
    text: str | None = None
    stop: Stop = "exact"


class Generation(msgspec.Struct, frozen=True, kw_only=True):
    """What an engine returns for one request.

    `token_s` holds the time at which each of the request's own tokens was known (its length is the
    number of tokens generated). `finished_s` is when its generation was complete, i.e. the earliest moment
    at which the result could be handed back. `tokenized_s` and `detokenized_s` are the ends of those
    stages, None where no text was involved.
    The padding is the token positions that were computed without being asked for, in a prefill and in
    decode steps: padded prompts, steps of a row past its own end, and a row's share of the empty rows that
    were computed beside it (hence no whole number).
    """

    uid: int
    token_ids: Sequence[int]
    token_s: Sequence[float]
    finished_s: float
    tokenized_s: float | None = None
    detokenized_s: float | None = None
    padded_prefill_tokens: float = 0.0
    padded_decode_tokens: float = 0.0


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """A request's end in an engine without a result: it was at fault alone, its neighbours go on."""

    uid: int
    error: str


class Completion(msgspec.Struct, frozen=True, kw_only=True):
    """One request's outcome: a row of `requests.parquet`. There is exactly one per request.

    A request is `uid` in the order of the schedule; it was due at `due_s`, sent, admitted to batch `batch_id`
    (`admitted_s`), its first token known at `first_token_s`, done at `done_s`; its lengths are
    `prompt_tokens` and `output_tokens`. `status` is ok, error, timeout or rejected, `error` the reason.
    `queue_s + tokenize_s + prefill_s + decode_s + detokenize_s` is the latency `done_s - due_s`, a missing
    stage counting as absent. `batch_size` is how many requests ran once it was admitted, itself included.
    `admit_reason` says why it went when it did, `wait_reason` why the policy last left it waiting before that
    (`busy`: it was never asked, as the engine was at work); None if it did not wait. `padded_tokens` is all
    padding, `padded_prefill_tokens` the prefill's part. `pacer_lag_s + interpreter_lag_s = sent_s - due_s`:
    how late the sender turned to this request, and how long it then waited for the interpreter and the
    processor. `itl_ms` are the gaps between the request's consecutive tokens.
    """

    uid: int
    due_s: float
    sent_s: float | None
    admitted_s: float | None = None
    first_token_s: float | None = None
    done_s: float | None = None
    prompt_tokens: int = 0
    output_tokens: int = 0
    padded_tokens: float | None = None
    padded_prefill_tokens: float | None = None
    batch_id: int | None = None
    batch_size: int | None = None
    admit_reason: str | None = None
    wait_reason: str | None = None
    status: Status = "ok"
    error: str | None = None
    tokenize_s: float | None = None
    queue_s: float | None = None
    prefill_s: float | None = None
    decode_s: float | None = None
    detokenize_s: float | None = None
    itl_ms: tuple[float, ...] | None = None
    pacer_lag_s: float | None = None
    interpreter_lag_s: float | None = None


class ServiceLaw(msgspec.Struct, frozen=True, kw_only=True):
    """How long an engine computes, as a function of batch and tokens: all that a simulation knows of it.

    A prefill takes `prefill_s + prefill_s_per_token` × prompt positions computed (padding included). A
    decode step takes `decode_s + decode_s_per_sequence` × rows `+ decode_s_per_context_token` × tokens
    held by these rows. Decoding is bound by memory traffic, so on real devices `decode_s` is the large
    part, and that is why batching pays. Where prompts ride along with a decode step, the pass costs
    `prefill_s` in place of `decode_s`. `request_s` is the time per request outside the model, such as
    tokenizing.
    """

    prefill_s: float = 0.0
    prefill_s_per_token: float = 0.0
    decode_s: float = 0.0
    decode_s_per_sequence: float = 0.0
    decode_s_per_context_token: float = 0.0
    request_s: float = 0.0


class Footprint(msgspec.Struct, frozen=True, kw_only=True):
    """What a model in one precision holds, moves and computes: all that its physical limits depend on.

    `weight_bytes` are all weights; `gathered_bytes` of these are embedding tables, of which a step reads no
    more than a row a token. `linear_parameters` are the decoder's matrices, `head_parameters` the one that
    maps to the vocabulary: two operations each, for every token computed. `attention_layers` with full
    attention have heads of `attention_width` elements together, and keep `kv_bytes_per_token` of a token, 0
    where the cache has another shape (the limits are then lower, and `note` says so). `math` is the type
    that the products are computed in.
    """

    parameters: int
    weight_bytes: int
    gathered_bytes: int
    linear_parameters: int
    head_parameters: int
    attention_layers: int
    attention_width: int
    kv_bytes_per_token: int
    math: str
    note: str = ""

    @property
    def read_bytes(self) -> int:
        """Return the bytes of the weights that every step reads."""
        return self.weight_bytes - self.gathered_bytes


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """One reading of one `field`, of this `value`: a row of `telemetry.parquet`.

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
    number was obtained, or why it is missing. `repeats` has the figure of each repeat by its number, where
    the value is their mean; repeats of one number had the same traffic in every system. Of one repeat alone
    `blocks` has the figure of each part of its window, by number: likewise the same traffic. `confidence` is
    that of Student's t behind the interval: above 0.95 where the run was looked at more than once.
    `unresolved` says why an interval of such data would be too narrow; there is none then. Where the value
    comes from one process, `between_processes` is the standard deviation, as a share, by which its interval
    was widened.
    """

    value: float | None
    source: ValueSource
    note: str
    low: float | None = None
    high: float | None = None
    n: int | None = None
    repeats: dict[int, float] | None = None
    blocks: dict[int, float] | None = None
    confidence: float = 0.95
    unresolved: str = ""
    between_processes: float | None = None


class Run(msgspec.Struct, frozen=True, kw_only=True, weakref=True):
    """One recorded job: everything that its folder holds.

    `requests`, `telemetry` and `quality` are Arrow tables with the columns of `Completion`, `Sample`
    and of the quality pass: its own `position, nll`; against the baseline `kl, agree, ref_nll`; and, in the
    baseline's job, itself at another batch size against these (`again_nll, again_kl, again_agree`).
    `outputs` has a row per continued prompt (see `store.write_run`). Both are None where they were not made.
    `meta` is `run.json` as decoded.
    """

    folder: str
    meta: RunMeta
    requests: pa.Table
    telemetry: pa.Table
    quality: pa.Table | None = None
    outputs: pa.Table | None = None


class Interval(msgspec.Struct, frozen=True, kw_only=True):
    """A span of the run's clock, in seconds, from `start_s` to `end_s`."""

    start_s: float
    end_s: float


class Probe(msgspec.Struct, frozen=True, kw_only=True):
    """One trial of a capacity search: traffic at one steady rate, `rate_rps`, scored in `window`.

    `repeat` names the draw of the requests (from 1): probes of the same one are the same requests at another
    pace. `stopped` says why it was ended before its window had passed, None where it was not; `warmup_s` is
    how long the warm-up took. `due` requests were due inside the window, sent as `pacer` tells.
    """

    rate_rps: float
    window: Interval
    repeat: int = 1
    stopped: str | None = None
    warmup_s: float | None = None
    due: int | None = None
    pacer: dict[str, Any] | None = None


class RunMeta(msgspec.Struct, frozen=True, kw_only=True):
    """`run.json`: the job, its circumstances and what was found while it ran.

    The job is a `system`, a `kind` (offline: saturated; capacity: a search; window: scored traffic) and for
    windows a `repeat`; it ended as `status`, with `error` where it failed. `source` says whether its figures
    are measured, `schema`, `config`, `written` and `provenance` are as in `experiment.json`. It ran on
    `device` under `offered_rps` requests/s; `treatment` is the optimization as found in the loaded model,
    `doubts` are those raised while it ran.
    `missing` maps a field or figure to the reason why it was not measured; `facts` holds the meters'
    and the model's description (device, memory API, treatment check, weights' bytes, load time);
    `window` is None for a job that never reached it; `probes` are those of a capacity search, in their
    order, whose requests all stand in the one table.
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
    probes: list[Probe] = []
    treatment: dict[str, Any] = {}
    facts: dict[str, Any] = {}
    missing: dict[str, str] = {}
    doubts: list[str] = []
    error: str | None = None


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of the traffic of a running job at a moment; None where it is not known, or not yet.

    `completed` of `due` requests of the phase have been answered, `failed` of them without a result; `p50_ms`
    and `p95_ms` are the latencies of those answered so far, to about 1 %: what still waits is not in them, so
    they are for watching, never for a result. `queued` requests wait and `running` are in the engine now.
    `tokens_per_s` are output tokens answered over the last seconds; power and memory the meters' last
    readings.
    """

    rate_rps: float | None = None
    completed: int | None = None
    due: int | None = None
    failed: int = 0
    p50_ms: float | None = None
    p95_ms: float | None = None
    queued: int | None = None
    running: int | None = None
    tokens_per_s: float | None = None
    power_w: float | None = None
    gpu_memory_gb: float | None = None
    host_memory_gb: float | None = None


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """What a running job tells whoever watches: its phase, how far it is, and figures so far.

    `total_s` is the phase's planned length, None where it cannot be known (loading); `done` the share of the
    whole job, None where that is the phase's. `figures` are there while there is traffic.
    """

    job: str
    phase: str
    elapsed_s: float = 0.0
    total_s: float | None = None
    detail: str = ""
    done: float | None = None
    figures: Figures | None = None
