"""Run folders: written once, read back whole, refused when they are newer than this code.

An experiment's folder `results/runs/<config>/<stamp>-<commit>/` holds `experiment.json` and one
folder per job (`baseline.offline`, `baseline.1`, `optimized.1`, …). A job's folder holds
`requests.parquet`, `telemetry.parquet`, for the offline job `quality.parquet` and `outputs.parquet`, and
`run.json`, which is written last and atomically: its presence means that the job has ended and all else is
there.
`schedules/` holds the traffic that is the same for every system, by repeat.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from bench.errors import ResultError
from bench.records import Completion, Run, RunMeta, Sample

if TYPE_CHECKING:
    import pyarrow as pa

T = TypeVar("T", bound=msgspec.Struct)

SCHEMA = 4
"""Version of the run folder; an older one is read, what it did not record being null.

1  first: requests, telemetry, quality as Parquet; run.json; experiment.json.
2  requests: wait_reason, padded_prefill_tokens, pacer_lag_s, interpreter_lag_s; padded_tokens a fraction.
3  capacity jobs (run.json: kind "capacity", probes); facts: sampler, idle, warmup, stopped_early, peaks, the
   gpu's sensor, calibration and after; schedules/ beside the jobs; assumptions without guessed defaults.
4  outputs.parquet; quality: ref_nll, again_nll, again_kl, again_agree; missing: outputs, again.
"""

RUN_FILE = "run.json"
EXPERIMENT_FILE = "experiment.json"
REPLAY_FILE = "ab.json"
"""The plan of an A/B replay, in its run folder."""
OUTPUTS_FILE = "outputs.parquet"


class Rounds(msgspec.Struct, frozen=True, kw_only=True):
    """How many rounds of repeats were made of at most `most`, and why no more.

    In a round every system is measured once; `made` were, and `why` says what ended them. `settled` says
    whether more would have changed nothing.
    """

    made: int
    most: int
    settled: bool
    why: str


class ExperimentMeta(msgspec.Struct, frozen=True, kw_only=True):
    """`experiment.json`: what every job of the folder shares.

    `schema` is that of the folder, `name` the experiment's, `argv` the command; `provenance` has machine,
    versions, commit and time. `config` is the experiment as resolved, `written` as it stood in `config_file`.
    `price` and `rate_rps` are filled in when the baseline's jobs have told the GPU and the capacity, so that
    a summary needs this folder alone; `rate_note` says where the rate comes from. `rounds` is filled in when
    repeats that were looked at as they went have ended; None where their number is fixed, or they go on.
    """

    schema: int
    name: str
    config_file: str
    config: dict[str, Any]
    written: dict[str, Any]
    argv: list[str]
    provenance: dict[str, Any]
    price: dict[str, Any] | None = None
    rate_rps: float | None = None
    rate_note: str = ""
    rounds: Rounds | None = None


def write_atomically(path: Path, data: bytes) -> None:
    """Write `data` so that `path` either does not exist or is whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, 0o644)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def write_json(path: Path, value: Any) -> None:
    """Write a Struct or plain value as indented JSON, atomically.

    Keys keep their order: that of the systems says which one is the baseline.
    """
    write_atomically(path, msgspec.json.format(msgspec.json.encode(value), indent=1))


def write_run(
    folder: Path,
    meta: RunMeta,
    requests: Sequence[Completion],
    telemetry: Sequence[Sample],
    quality: pa.Table | None = None,
    outputs: pa.Table | None = None,
) -> None:
    """Write one job's folder; `run.json` comes last.

    `outputs` has the columns of `outputs_schema`.
    """
    import pyarrow.parquet as pq

    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(requests_table(requests), folder / "requests.parquet", compression="zstd")
    pq.write_table(telemetry_table(telemetry), folder / "telemetry.parquet", compression="zstd")
    if quality is not None:
        pq.write_table(quality, folder / "quality.parquet", compression="zstd")
    if outputs is not None:
        pq.write_table(outputs, folder / OUTPUTS_FILE, compression="zstd")
    write_json(folder / RUN_FILE, meta)


def read_run(folder: Path) -> Run:
    """Read one job's folder.

    Raises ResultError when it is incomplete, damaged, or written by a newer bench.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    meta = _decode(folder / RUN_FILE, RunMeta)
    try:
        quality, outputs = folder / "quality.parquet", folder / OUTPUTS_FILE
        requests = pq.read_table(folder / "requests.parquet")
        return Run(
            folder=folder.name,
            meta=meta,
            requests=_widened(requests, _request_schema()) if meta.schema < 2 else requests,
            telemetry=pq.read_table(folder / "telemetry.parquet"),
            quality=_widened(pq.read_table(quality), quality_schema()) if quality.exists() else None,
            outputs=_exactly(pq.read_table(outputs), outputs_schema()) if outputs.exists() else None,
        )
    except (OSError, pa.ArrowException) as error:
        raise ResultError(
            f"{folder}: a table of this run cannot be read ({error}); run the job again"
        ) from error


def read_experiment(folder: Path) -> ExperimentMeta:
    """Read an experiment folder's `experiment.json`; ResultError as for `read_run`."""
    if not is_experiment(folder):
        below = ("*/", "*/*/", "*/*/*/")  # of an experiment, of all of them, of the results
        found = (path.parent for depth in below for path in folder.glob(depth + EXPERIMENT_FILE))
        inside = sorted(found, key=lambda run: run.name)
    if not is_experiment(folder) and inside:
        raise ResultError(f"{folder}: is no run folder, but holds {len(inside)}; the newest is {inside[-1]}")
    return _decode(folder / EXPERIMENT_FILE, ExperimentMeta)


def write_experiment(folder: Path, meta: ExperimentMeta) -> None:
    """Write `experiment.json`."""
    write_json(folder / EXPERIMENT_FILE, meta)


def is_experiment(folder: Path) -> bool:
    """Say whether `folder` is an experiment's folder."""
    return (folder / EXPERIMENT_FILE).is_file()


def is_complete(folder: Path) -> bool:
    """Say whether a job's folder holds a job that ended well."""
    return (folder / RUN_FILE).is_file() and _decode(folder / RUN_FILE, RunMeta).status == "complete"


def read_runs(folder: Path) -> list[Run]:
    """Read every ended job of an experiment's folder, ordered by system and repeat."""
    runs = [read_run(path.parent) for path in sorted(folder.glob(f"*/{RUN_FILE}"))]
    return sorted(runs, key=lambda run: (run.meta.system, run.meta.kind, run.meta.repeat))


def _decode(path: Path, target: type[T]) -> T:
    try:
        raw: Any = msgspec.json.decode(path.read_bytes())
    except OSError as error:
        raise ResultError(f"{path}: cannot be read ({error.strerror}); is this a run folder?") from error
    except msgspec.DecodeError as error:
        raise ResultError(f"{path}: is no valid JSON ({error}); the file is damaged, run again") from error
    schema = raw.get("schema") if isinstance(raw, dict) else None
    if not isinstance(schema, int):
        raise ResultError(f"{path}: has no schema number; it was not written by bench")
    if schema > SCHEMA:
        raise ResultError(
            f"{path}: has schema {schema}, newer than the {SCHEMA} that this bench reads; upgrade bench"
        )
    try:
        return msgspec.convert(raw, target)
    except msgspec.ValidationError as error:
        raise ResultError(f"{path}: does not fit schema {schema}: {error}") from error


def requests_table(completions: Sequence[Completion]) -> pa.Table:
    """Return outcomes as the table that `requests.parquet` holds."""
    return _table(completions, _request_schema())


def telemetry_table(samples: Sequence[Sample]) -> pa.Table:
    """Return readings as the table that `telemetry.parquet` holds."""
    return _table(samples, _telemetry_schema())


def write_table(path: Path, table: pa.Table) -> None:
    """Write a table as Parquet, atomically."""
    import io

    import pyarrow.parquet as pq

    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    write_atomically(path, buffer.getvalue())


def read_table(path: Path) -> pa.Table:
    """Read a table that `write_table` wrote; ResultError where it is damaged."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.read_table(path)
    except (OSError, pa.ArrowException) as error:
        raise ResultError(f"{path}: cannot be read ({error}); start a new run") from error


def _table(rows: Sequence[msgspec.Struct], schema: pa.Schema) -> pa.Table:
    import pyarrow as pa

    columns = {name: [getattr(row, name) for row in rows] for name in schema.names}
    return pa.table(columns, schema=schema)


def _widened(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """Return a table with the columns of today: what was not recorded then is null."""
    import pyarrow as pa

    columns = {
        field.name: table.column(field.name).cast(field.type)
        if field.name in table.column_names
        else pa.nulls(table.num_rows, field.type)
        for field in schema
    }
    return pa.table(columns, schema=schema)


def _exactly(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """Return a table's columns of `schema`; pa.ArrowInvalid where one is not there or is of another kind."""
    import pyarrow as pa

    if lacking := [name for name in schema.names if name not in table.column_names]:
        raise pa.ArrowInvalid(f"no column {', '.join(lacking)}")
    return table.select(schema.names).cast(schema)


def quality_schema() -> pa.Schema:
    """Return the columns of `quality.parquet`: a row per scored position, nll and kl in nats."""
    import pyarrow as pa

    against = [("kl", pa.float64()), ("agree", pa.bool_())]
    return pa.schema(
        [("position", pa.int32()), ("nll", pa.float64()), *against, ("ref_nll", pa.float64())]
        + [("again_nll", pa.float64())]
        + [(f"again_{name}", kind) for name, kind in against]
    )


def outputs_schema() -> pa.Schema:
    """Return the columns of `outputs.parquet`: a row per continued prompt.

    What was asked (`kind, prompt, opening, keys, digits`) and what was written: token `ids`, `text`, and
    whether it `ended` by itself. `ref_` has the baseline's answer to the same prompt, `again_`, in the
    baseline's own job, its answer at another batch size.
    """
    import pyarrow as pa

    asked = [("kind", pa.string()), ("prompt", pa.string()), ("opening", pa.string())]
    wanted = [(name, pa.list_(pa.string())) for name in ("keys", "digits")]
    answer = [("ids", pa.list_(pa.int32())), ("text", pa.string()), ("ended", pa.bool_())]
    answers = [(prefix + name, kind) for prefix in ("", "ref_", "again_") for name, kind in answer]
    return pa.schema([*asked, *wanted, *answers])


def _request_schema() -> pa.Schema:
    import pyarrow as pa

    times = ("due_s", "sent_s", "admitted_s", "first_token_s", "done_s")
    stages = ("tokenize_s", "queue_s", "prefill_s", "decode_s", "detokenize_s")
    counts = ("prompt_tokens", "output_tokens", "batch_id", "batch_size")
    padding = ("padded_tokens", "padded_prefill_tokens")
    texts = ("admit_reason", "wait_reason", "status", "error")
    lags = ("pacer_lag_s", "interpreter_lag_s")
    return pa.schema(
        [("uid", pa.int64())]
        + [(name, pa.float64()) for name in times]
        + [(name, pa.int32()) for name in counts]
        + [(name, pa.float64()) for name in padding]
        + [(name, pa.string()) for name in texts]
        + [(name, pa.float64()) for name in (*stages, *lags)]
        + [("itl_ms", pa.list_(pa.float32()))]
    )


def _telemetry_schema() -> pa.Schema:
    import pyarrow as pa

    return pa.schema(
        [
            ("t_s", pa.float64()),
            ("read_s", pa.float64()),
            ("field", pa.string()),
            ("value", pa.float64()),
            ("gpu_uuid", pa.string()),
        ]
    )
