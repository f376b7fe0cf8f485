"""The README is short, its table is that of the committed run, and what it names exists."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from bench.run.results import write_csvs
from tests.evidence import PAGE, page
from tests.readme import README, ROOT, updated

TEXT = README.read_text(encoding="utf-8")


def test_it_has_at_most_200_lines() -> None:
    assert len(TEXT.splitlines()) <= 200


def test_its_result_table_is_that_of_the_committed_run() -> None:
    assert updated(TEXT) == TEXT, "run: python -m tests.readme"


def test_the_committed_csvs_are_rebuilt_bit_for_bit_from_their_raw_data(tmp_path: Path) -> None:
    found = re.search(r"<!-- results: (\S+) -->", TEXT)
    assert found
    run = ROOT / found.group(1)
    for path in write_csvs(run, tmp_path):
        assert path.read_bytes() == (run / path.name).read_bytes(), "run: bench summarize, then commit"


def test_every_file_that_it_links_or_names_is_in_the_repository() -> None:
    tracked = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    folders = {
        "/".join(path.split("/")[:depth]) for path in tracked for depth in range(1, path.count("/") + 1)
    }
    linked = set(re.findall(r"\]\(([^)#]+)\)", TEXT))
    named = set(re.findall(r"\b((?:bench|configs|docs|results)/[\w./-]+\w)", TEXT))
    made_by_a_run = {"results/baseline_inference_metrics.csv", "results/optimized_inference_metrics.csv"}
    for path in (linked | named) - made_by_a_run:
        assert path in tracked or path.rstrip("/") in folders, path


def test_every_make_target_that_it_names_exists() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in set(re.findall(r"\bmake ([a-z]+)\b(?! present)", TEXT)) - {"present"}:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_there_are_at_most_ten_documented_targets() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = re.findall(r"^([a-z-]+):.*## ", makefile, re.MULTILINE)
    assert {"bench", "test", "help"} <= set(targets)
    assert len(targets) <= 10


def test_the_page_of_evidence_is_that_of_the_recorded_measurements_and_every_claim_holds() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "run: python -m tests.evidence"
    assert "**no**" not in page()
