"""The dispatch benchmark goes on without LoadGen, and then claims no ratio."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.perf import dispatch


def test_without_loadgen_the_pacers_own_lag_is_measured_and_no_ratio_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "latest.json"
    monkeypatch.setitem(sys.modules, "mlperf_loadgen", None)  # its import fails
    monkeypatch.setattr(sys, "argv", ["dispatch", "--repeats", "1", "--seconds", "0.1", "--out", str(out)])
    monkeypatch.setattr(dispatch, "ENGINES", {"nothing": lambda: lambda: None})
    dispatch.main()
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "LoadGen: not installed; pip install '.[yardsticks]'"
    assert [line.split(":")[0] for line in lines[1:]] == ["nothing, 100/s, pacer", "nothing, 1000/s, pacer"]
    assert all("lag p50" in line for line in lines[1:])
    assert not out.exists()
