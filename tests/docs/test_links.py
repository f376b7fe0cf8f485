"""Every link of the documentation leads somewhere, and every page can be reached."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from tests.docs.pages import ROOT, anchors, blocks, links, pages, prose_of, text_of

LANGUAGES = {"sh", "toml", "python", "yaml", "text", "r"}


def by_path(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", pages(), ids=by_path)
def test_the_links_of_a_page_lead_to_files_and_headings_that_exist(page: Path) -> None:
    for link in links(page):
        if link.startswith(("https://", "http://")):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(target), link


def test_every_page_is_linked_from_another() -> None:
    linked = {
        (page.parent / link.partition("#")[0]).resolve()
        for page in pages()
        for link in links(page)
        if "://" not in link
    }
    assert set(pages()) - linked == {ROOT / "README.md"}


def test_the_pages_that_code_and_configs_name_exist_with_the_headings_that_they_name() -> None:
    tracked = subprocess.run(
        ["git", "ls-files", "bench", "tests", "configs", "Makefile", "results/*.ipynb"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    named = r"docs/([\w/-]+\.md)(?:, ([A-Z][\w/ ,]*\w))?"
    for path in tracked:
        if not (ROOT / path).is_file() or path.endswith((".parquet", ".json", ".safetensors")):
            continue
        for page, heading in re.findall(named, (ROOT / path).read_text(encoding="utf-8", errors="replace")):
            assert (ROOT / "docs" / page).is_file(), f"{path} names docs/{page}"
            if heading and path.startswith("bench/"):
                assert f"# {heading}" in text_of(ROOT / "docs" / page), f"{path} names {page}, {heading}"


def test_every_fenced_block_says_its_language_and_no_command_hides_in_an_indented_one() -> None:
    for block in blocks():
        assert block.language in LANGUAGES, block.name
    for page in pages():
        assert not re.findall(r"^ {4}(?:bench|make) .*$", prose_of(page), re.MULTILINE), page
