"""Run folders are written once, read back whole, and refused with a remedy when they cannot be read."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pyarrow.parquet as pq
import pytest

from bench import store
from bench.errors import ResultError
from bench.records import Completion, Interval, RunMeta, Sample

META = RunMeta(
    schema=store.SCHEMA,
    status="complete",
    source="measured",
    kind="window",
    system="baseline",
    repeat=1,
    config={"name": "x"},
    written={"name": "x"},
    provenance={"commit": None},
    device="cpu",
    offered_rps=2.0,
    window=Interval(start_s=1.0, end_s=3.0),
    missing={"energy_j": "no GPU"},
)
ROWS = [
    Completion(
        uid=0, due_s=1.0, sent_s=1.001, admitted_s=1.1, first_token_s=1.5, done_s=2.0, prompt_tokens=7,
        output_tokens=3, padded_tokens=2.5, padded_prefill_tokens=0.5, batch_id=0, batch_size=1,
        admit_reason="size", wait_reason="busy", queue_s=0.1, prefill_s=0.4, decode_s=0.5,
        itl_ms=(250.0, 250.0), pacer_lag_s=0.0, interpreter_lag_s=0.001,
    ),
    Completion(uid=1, due_s=1.5, sent_s=1.5, status="rejected", error="queue full"),
]  # fmt: skip
SAMPLES = [Sample(t_s=1.0, read_s=0.0001, field="rss_gb", value=0.5)]


def test_what_was_written_is_read_back(tmp_path: Path) -> None:
    store.write_run(tmp_path / "baseline.1", META, ROWS, SAMPLES)
    run = store.read_run(tmp_path / "baseline.1")
    assert run.meta == META
    assert run.quality is None
    rows = [msgspec.convert(row, Completion) for row in run.requests.to_pylist()]
    assert rows == ROWS
    assert [msgspec.convert(row, Sample) for row in run.telemetry.to_pylist()] == SAMPLES


def test_not_measured_stays_null_and_never_becomes_zero(tmp_path: Path) -> None:
    store.write_run(tmp_path / "r", META, ROWS, [])
    row = store.read_run(tmp_path / "r").requests.to_pylist()[1]
    assert row["done_s"] is None
    assert row["batch_size"] is None
    assert row["itl_ms"] is None


def test_the_same_data_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        store.write_run(tmp_path / name, META, ROWS, SAMPLES)
    for file in ("requests.parquet", "telemetry.parquet", "run.json"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_a_folder_without_run_json_is_not_a_run(tmp_path: Path) -> None:
    store.write_run(tmp_path / "r", META, ROWS, SAMPLES)
    (tmp_path / "r" / "run.json").unlink()
    assert not store.is_complete(tmp_path / "r")
    assert store.read_runs(tmp_path) == []
    with pytest.raises(ResultError, match="run folder"):
        store.read_run(tmp_path / "r")


def test_a_failed_run_is_not_complete(tmp_path: Path) -> None:
    store.write_run(tmp_path / "r", msgspec.structs.replace(META, status="failed", error="oom"), [], [])
    assert not store.is_complete(tmp_path / "r")
    assert store.read_run(tmp_path / "r").meta.error == "oom"


def test_a_run_of_the_first_schema_is_read_with_what_it_did_not_record_as_null(tmp_path: Path) -> None:
    meta = msgspec.structs.replace(META, schema=1)
    new = {"wait_reason", "padded_prefill_tokens", "pacer_lag_s", "interpreter_lag_s"}
    store.write_run(tmp_path / "r", meta, ROWS, SAMPLES)
    path = tmp_path / "r" / "requests.parquet"
    table = pq.read_table(path).drop_columns(list(new))
    padded = table.column_names.index("padded_tokens")
    table = table.set_column(padded, "padded_tokens", table.column("padded_tokens").cast("int32", safe=False))
    pq.write_table(table, path)
    read = store.read_run(tmp_path / "r").requests
    assert set(read.column_names) == set(Completion.__struct_fields__)
    first = read.to_pylist()[0]
    assert {name: first[name] for name in new} == dict.fromkeys(new)
    assert first["padded_tokens"] == 2.0
    assert isinstance(first["padded_tokens"], float)
    assert first["itl_ms"] == [250.0, 250.0]


def test_every_field_of_a_completion_has_its_column(tmp_path: Path) -> None:
    store.write_run(tmp_path / "r", META, ROWS, SAMPLES)
    assert set(store.read_run(tmp_path / "r").requests.column_names) == set(Completion.__struct_fields__)


def test_a_newer_schema_is_refused_with_the_remedy(tmp_path: Path) -> None:
    store.write_run(tmp_path / "r", META, ROWS, SAMPLES)
    path = tmp_path / "r" / "run.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"schema": store.SCHEMA + 1}))
    with pytest.raises(ResultError, match="upgrade bench"):
        store.read_run(tmp_path / "r")


@pytest.mark.parametrize("text", ["{", "[]", '{"schema": 1}'])
def test_a_damaged_run_json_is_one_clear_line(tmp_path: Path, text: str) -> None:
    store.write_run(tmp_path / "r", META, ROWS, SAMPLES)
    (tmp_path / "r" / "run.json").write_text(text)
    with pytest.raises(ResultError) as caught:
        store.read_run(tmp_path / "r")
    assert "run.json" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_damaged_table_is_named(tmp_path: Path) -> None:
    store.write_run(tmp_path / "r", META, ROWS, SAMPLES)
    (tmp_path / "r" / "requests.parquet").write_bytes(b"not parquet")
    with pytest.raises(ResultError, match="run the job again"):
        store.read_run(tmp_path / "r")


def test_outputs_without_a_column_are_refused_by_name(tmp_path: Path) -> None:
    import pyarrow as pa

    schema = store.outputs_schema()
    outputs = pa.table({name: pa.nulls(1) for name in schema.names if name != "keys"})
    store.write_run(tmp_path / "r", META, ROWS, [], None, outputs)
    with pytest.raises(ResultError, match="no column keys"):
        store.read_run(tmp_path / "r")


def test_an_interrupted_write_leaves_no_half_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("bench.store.os.replace", broken)
    with pytest.raises(KeyboardInterrupt):
        store.write_json(tmp_path / "x.json", {"a": 1})
    assert list(tmp_path.iterdir()) == []


def test_outputs_are_read_back_and_older_quality_tables_get_todays_columns(tmp_path: Path) -> None:
    import pyarrow as pa

    schema = store.outputs_schema()
    row = {"kind": "json", "prompt": "?", "opening": "{", "keys": ["a"], "digits": ["12"], "ids": [1, 2],
           "text": "x", "ended": True}  # fmt: skip
    outputs = pa.table({name: [row.get(name)] for name in schema.names}, schema=schema)
    before = pa.table({"position": [1], "nll": [2.0], "kl": [None], "agree": [None]})
    store.write_run(tmp_path / "r", META, ROWS, [], before, outputs)
    run = store.read_run(tmp_path / "r")
    assert run.outputs is not None
    assert run.outputs.to_pylist() == [dict.fromkeys(schema.names) | row]
    assert run.quality is not None
    assert run.quality.schema.equals(store.quality_schema())
    assert run.quality.to_pylist()[0]["nll"] == 2.0
    assert run.quality.to_pylist()[0]["ref_nll"] is None
