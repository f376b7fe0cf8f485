"""The notebook, executed as `bench notebook --html` does it, says of each pair what its numbers say."""

from __future__ import annotations

import html
import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from typer.testing import CliRunner

from bench.cli import app
from bench.errors import BenchError, NotAvailable
from bench.report.notebook_file import NAME, as_written, to_html
from tests.notebook.pairs import IMPROVED, INCOMPLETE, MIXED, NAMES, PUBLISHED, WORSE, Figure, write_pair

HOSTILE = "<img src=x onerror=alert(1)>"
PAIRS: dict[str, Mapping[str, Figure]] = {
    "improved": IMPROVED,
    "worse": WORSE,
    "mixed": MIXED,
    "incomplete": INCOMPLETE,
    "hostile": {HOSTILE: 1} | IMPROVED | {"cost_per_1k_requests_usd": f"nobody knows {HOSTILE}"},
}
BREAK = "here begins a pair"


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Return the executed part of each pair, of one kernel that changes from folder to folder.

    Warnings of any kind would show in them as output on stderr.
    """
    root = tmp_path_factory.mktemp("pairs")
    document = json.loads(as_written())
    cells = []
    for name, optimized in PAIRS.items():
        folder = write_pair(root / name, optimized)
        cells.append(document["cells"][0] | {"id": name, "source": f"# {BREAK}"})
        cells.append(
            document["cells"][1] | {"id": f"{name}-go", "source": f"import os; os.chdir({str(folder)!r})"}
        )
        cells += [cell | {"id": f"{name}-{cell['id']}"} for cell in document["cells"]]
    (root / NAME).write_text(json.dumps(document | {"cells": cells}), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONWARNINGS", "always")
        page = to_html(root / NAME)
    return dict(zip(PAIRS, page.split(BREAK)[1:], strict=True))


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the page that the command makes in a folder that holds the two published CSVs alone."""
    folder = tmp_path_factory.mktemp("published")
    for name in NAMES:
        (folder / name).write_bytes((PUBLISHED / name).read_bytes())
    page = folder / "somewhere" / "else.html"
    done = CliRunner().invoke(app, ["notebook", str(folder), "--out", str(page)])
    assert (done.exit_code, done.stdout) == (0, f"{page}\n")
    assert (folder / NAME).read_text(encoding="utf-8") == as_written(), "executed, it stays without outputs"
    return page.read_text(encoding="utf-8")


def text_of(page: str) -> str:
    """Return what a reader sees, on one line."""
    shown = re.sub(r"<(style|head)\b.*?</\1>", "", page, flags=re.DOTALL)
    return re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]+>", " ", shown)))


def test_the_improved_pair_is_said_to_be_better_in_everything(pages: dict[str, str]) -> None:
    text = text_of(pages["improved"])
    assert "6 became better" in text
    assert "saves 7.5 USD" in text
    assert "Worse :" not in text
    assert "became worse" not in text
    assert "not measured" not in text.partition("2 The baseline")[2].partition("6 Differences")[0]


def test_the_worse_pair_is_rejected_and_nothing_is_better(pages: dict[str, str]) -> None:
    text = text_of(pages["worse"])
    assert "Reject, on point values. SLA: p95 latency 1500 ms against at most 1200 ms" in text
    assert "6 became worse" in text
    assert not re.search(r"\bbetter\b|\bsaves\b|improve", text)


def test_the_mixed_pair_names_what_is_gained_and_what_is_given(pages: dict[str, str]) -> None:
    text = text_of(pages["mixed"])
    assert "2 became worse (p50 latency and average memory)" in text
    assert "p50 latency rises by 15.0 %, from 400 to 460 ms" in text
    assert "throughput rises by 50.0 %, from 10 to 15 requests/s" in text
    assert "Hold, on point values. Average memory rises by 30.0 %: beyond the 20 % that is tolerated" in text


def test_the_incomplete_pair_says_what_is_missing_and_why_and_nothing_else_of_it(
    pages: dict[str, str],
) -> None:
    text = text_of(pages["incomplete"])
    assert "cost per 1k USD 0.08 not measured – – not comparable" in text
    assert "optimized: no price is known for this GPU" in text
    assert "optimized: the energy counter could not be read" in text
    assert not re.search(r"(cost|energy) per 1k (rises|falls)|saves|nan\b", text, re.IGNORECASE)


def test_the_published_pair_has_its_published_figures_and_decision(published: str) -> None:
    text = text_of(published)
    for words in (
        "p50 latency ms 420 460 +40 +9.5 % worse",
        "p95 latency ms 980 820 -160 -16.3 % better",
        "cost, sustained USD 1850 1150 700",
        "energy kWh 800 525 275",
        "CO2e kg 320 210 110",
        "Adopt with guardrails, on point values.",
    ):
        assert words in text


def test_the_assumptions_are_in_the_text_as_assumptions(published: str) -> None:
    text = text_of(published).partition("1 Workload and assumptions")[2]
    for words in ("250,000 requests a day", "p95 latency at most 1200 ms", "0.4 kg CO2e/kWh"):
        assert words in text.partition("2 The baseline")[0]
    assert "These are assumptions, not measurements" in text


def test_what_a_file_says_stays_text(pages: dict[str, str]) -> None:
    assert "<img" not in pages["hostile"]
    assert text_of(pages["hostile"]).count(HOSTILE) > 4


def test_no_cell_of_any_pair_warned(pages: dict[str, str]) -> None:
    for page in pages.values():
        assert page.count("<svg") == 1
        assert "output_stderr" not in page


def test_a_page_needs_neither_network_nor_scripts(published: str) -> None:
    assert "<script" not in published
    assert not re.findall(r"(?:src|href|url|import)\s*[=(]?\s*[\"']?https?:", published)
    assert len(published) < 200_000


def test_a_malformed_csv_ends_the_command_with_its_one_line(tmp_path: Path) -> None:
    folder = write_pair(tmp_path, IMPROVED | {"p50_latency_ms": 300})
    (folder / NAMES[0]).write_text("metric,baseline_value,notes\np50_latency_ms,fast,\n", encoding="utf-8")
    error = CliRunner().invoke(app, ["notebook", str(folder), "--html"]).exception
    assert isinstance(error, BenchError)
    assert f"{NAMES[0]}, line 2: p50_latency_ms is 'fast', no finite number" in str(error)
    assert "\n" not in str(error)
    assert not (folder / "evaluation.html").exists()


def test_without_the_packages_the_remedy_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "nbclient", None)
    folder = write_pair(tmp_path, IMPROVED)
    error = CliRunner().invoke(app, ["notebook", str(folder), "--html"]).exception
    assert isinstance(error, NotAvailable)
    assert str(error) == (
        "executing the notebook needs nbclient: pip install 'gpu-inference-bench[notebook]'"
    )
