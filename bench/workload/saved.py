"""A schedule as a table: what was asked of a system, beside what it made of it.

Saved once an experiment, by the first job that draws it; every later job proves with it that its system was
asked for the very same: the same times, the same lengths, the same words. What a prompt says is kept as a
digest, as the prompts themselves can be drawn again and may be long.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from bench.errors import RunFailed
from bench.records import Request

if TYPE_CHECKING:
    import pyarrow as pa

_COLUMNS = {
    "uid": "requests",
    "due_s": "due times",
    "prompt_tokens": "prompt lengths",
    "output_tokens": "output lengths",
    "prompt_digest": "prompts",
}
"""Each column, and what differs where it does."""


def schedule_table(requests: Sequence[Request]) -> pa.Table:
    """Return one row a request: uid, due_s (as it is given), prompt_tokens, output_tokens, prompt_digest."""
    import pyarrow as pa

    return pa.table(
        {
            "uid": pa.array([r.uid for r in requests], pa.int64()),
            "due_s": pa.array([r.due_s for r in requests], pa.float64()),
            "prompt_tokens": pa.array([len(r.prompt_ids) for r in requests], pa.int64()),
            "output_tokens": pa.array([r.output_tokens for r in requests], pa.int64()),
            "prompt_digest": pa.array([_digest(r) for r in requests], pa.string()),
        }
    )


def check_shared(shared: pa.Table, own: pa.Table, name: str) -> None:
    """Raise RunFailed where `own` is not `shared`, the schedule `name` as another system was given it."""
    if shared.equals(own):
        return
    if shared.num_rows != own.num_rows:
        what = f"{own.num_rows} requests instead of {shared.num_rows}"
    else:
        column = next((key for key in _COLUMNS if not shared[key].equals(own[key])), "uid")
        differ = sum(a != b for a, b in zip(shared[column].to_pylist(), own[column].to_pylist(), strict=True))
        what = f"other {_COLUMNS[column]}, in {differ} of {own.num_rows} requests"
    raise RunFailed(
        f"schedule {name}: this system would be sent {what} than the one measured before it, so they "
        "could not be compared; systems must share a tokenizer, and no trace or text may change during a run"
    )


def _digest(request: Request) -> str:
    """Return 64 bits of a prompt's ids and text, as hexadecimal digits."""
    digest = hashlib.blake2b(np.asarray(request.prompt_ids, dtype=np.int64).tobytes(), digest_size=8)
    if request.text is not None:
        digest.update(request.text.encode("utf-8", "surrogatepass"))
    return digest.hexdigest()
