"""The history survives crashes, concurrent writers and other versions; damage is said with file and line."""

from __future__ import annotations

import multiprocessing
from pathlib import Path
from typing import Any

import msgspec
import pytest

from bench.errors import ResultError
from bench.run.history import Acceptance, append, differences, read_history
from tests.run.gating import entry

ACCEPTED = Acceptance(run="a", by="me", why="first", utc="2026-01-01T00:00:00+00:00")


def test_what_was_appended_is_read_back_in_order(tmp_path: Path) -> None:
    path = tmp_path / "demo" / "baseline.jsonl"
    append(path, [entry("a")])
    append(path, [ACCEPTED, entry("b")])
    history = read_history(path)
    assert history.lines == (entry("a"), ACCEPTED, entry("b"))
    assert history.acceptances == (ACCEPTED,)
    assert history.torn == ()


def test_a_file_that_is_not_there_is_an_empty_history(tmp_path: Path) -> None:
    assert read_history(tmp_path / "none.jsonl").lines == ()


def test_appending_never_changes_what_is_there(tmp_path: Path) -> None:
    path = tmp_path / "h.jsonl"
    append(path, [entry("a")])
    before = path.read_bytes()
    append(path, [entry("b")])
    assert path.read_bytes().startswith(before)


def test_a_run_that_was_recorded_twice_counts_once_at_its_place_as_it_was_last(tmp_path: Path) -> None:
    path = tmp_path / "h.jsonl"
    append(path, [entry("a"), entry("b"), entry("a", 600.0)])
    assert read_history(path).entries == (entry("a", 600.0), entry("b"))


@pytest.mark.parametrize("cut", [1, 40, 200])
def test_a_line_torn_by_a_crash_is_left_out_and_said_and_costs_no_other(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "h.jsonl"
    append(path, [entry("a"), entry("b")])
    path.write_bytes(path.read_bytes()[:-cut])
    if cut == 1:  # all but the newline: nothing is lost
        assert [one.run for one in read_history(path).entries] == ["a", "b"]
    else:
        assert [one.run for one in read_history(path).entries] == ["a"]
        assert read_history(path).torn == (2,)
    append(path, [entry("c")])
    history = read_history(path)
    assert [one.run for one in history.entries] == (["a", "b", "c"] if cut == 1 else ["a", "c"])
    assert history.torn == (() if cut == 1 else (2,))


def test_a_damaged_line_names_file_and_line(tmp_path: Path) -> None:
    path = tmp_path / "h.jsonl"
    append(path, [entry("a"), entry("b"), entry("c")])
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0], lines[1][:50], lines[2]]) + "\n")
    with pytest.raises(ResultError, match=r"h\.jsonl, line 2: is no valid JSON"):
        read_history(path)
    path.write_text("\n".join([lines[0], '{"line":"run","schema":1}', lines[2]]) + "\n")
    with pytest.raises(ResultError, match=r"h\.jsonl, line 2: is no line of a history"):
        read_history(path)


def test_a_line_of_a_newer_bench_is_refused_with_the_remedy(tmp_path: Path) -> None:
    path = tmp_path / "h.jsonl"
    append(path, [entry("a", schema=99)])
    with pytest.raises(ResultError, match="newer than the 1 that this bench reads; upgrade bench"):
        read_history(path)


def test_several_writers_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "h.jsonl"
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=_write_many, args=(path, name)) for name in "abcd"]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert sorted(one.run for one in read_history(path).entries) == sorted(
        f"{name}{i}" for name in "abcd" for i in range(25)
    )


def _write_many(path: Path, name: str) -> None:
    for i in range(25):
        append(path, [entry(f"{name}{i}")])


def test_a_history_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ResultError, match="cannot be written"):
        append(tmp_path / "file" / "h.jsonl", [entry("a")])


def test_differences_are_named_and_keys_that_one_does_not_know_are_none() -> None:
    old: dict[str, Any] = {"system": {"compile": None, "batching": {"kind": "none"}}, "seed": 7}
    new = {"system": {"compile": {"mode": "default"}, "batching": {"kind": "none", "new": 1}}, "other": 3}
    assert differences(old, new) == ["system.compile: None against a table"]
    assert differences(old, msgspec.json.decode(msgspec.json.encode(old))) == []
    assert differences({"a": {"b": None}}, {"a": {"b": 2}}) == ["a.b: None against 2"]
