"""A saved schedule proves that another system is sent the same, and says what is not."""

from __future__ import annotations

import io

import msgspec
import pyarrow.parquet as pq
import pytest

from bench.errors import RunFailed
from bench.records import Request
from bench.workload.saved import check_shared, schedule_table

REQUESTS = [
    Request(uid=i, due_s=0.1 * i + 1 / 3, prompt_ids=(i, i + 1, i + 2), output_tokens=4 + i, text=f"w{i}")
    for i in range(5)
]
TABLE = schedule_table(REQUESTS)


def changed(**fields: object) -> list[Request]:
    return [msgspec.structs.replace(r, **fields) if r.uid == 2 else r for r in REQUESTS]


def test_a_schedule_says_who_is_due_when_with_which_lengths() -> None:
    assert TABLE.column_names == ["uid", "due_s", "prompt_tokens", "output_tokens", "prompt_digest"]
    assert TABLE["due_s"].to_pylist() == [r.due_s for r in REQUESTS]
    assert TABLE["prompt_tokens"].to_pylist() == [3] * 5
    assert TABLE["output_tokens"].to_pylist() == [4, 5, 6, 7, 8]
    assert len(set(TABLE["prompt_digest"].to_pylist())) == 5


def test_the_same_schedule_is_the_same_after_it_was_written_and_read() -> None:
    file = io.BytesIO()
    pq.write_table(TABLE, file)
    file.seek(0)
    check_shared(pq.read_table(file), schedule_table(list(REQUESTS)), "1")


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"due_s": 0.2}, "other due times, in 1 of 5 requests"),
        ({"output_tokens": 99}, "other output lengths, in 1 of 5"),
        ({"prompt_ids": (1, 2)}, "other prompt lengths, in 1 of 5"),
        ({"prompt_ids": (3, 2, 1)}, "other prompts, in 1 of 5 requests .* share a tokenizer"),
        ({"text": "else"}, "other prompts, in 1 of 5"),
        ({"text": None}, "other prompts, in 1 of 5"),
        ({"uid": 9}, "other requests, in 1 of 5"),
    ],
)
def test_another_schedule_is_refused_with_what_differs(fields: dict[str, object], expected: str) -> None:
    with pytest.raises(RunFailed, match=f"schedule 2: .*{expected}"):
        check_shared(TABLE, schedule_table(changed(**fields)), "2")


def test_a_schedule_of_another_length_is_refused() -> None:
    with pytest.raises(RunFailed, match="4 requests instead of 5"):
        check_shared(TABLE, schedule_table(REQUESTS[:4]), "1")


def test_a_prompt_that_is_only_a_length_has_a_digest_too() -> None:
    [row] = schedule_table([Request(uid=0, due_s=0.0, prompt_ids=range(4, 9), output_tokens=1)]).to_pylist()
    assert row["prompt_tokens"] == 5
    assert len(row["prompt_digest"]) == 16
