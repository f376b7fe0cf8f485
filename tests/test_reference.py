"""The reference says what the code says, and the code says something of everything that one can write."""

from __future__ import annotations

import re

import pytest

from bench import records, store
from bench.config import Experiment
from bench.serving.policies import Deadline
from tests.reference import FOLDER, PAGES
from tests.reference.experiment import FAMILIES, TABLES
from tests.reference.words import doc_of, fields_of

WRITTEN = [
    Experiment,
    *(kind for kind, _ in TABLES.values()),
    *(kind for _, family in FAMILIES.values() for kind in family.values()),
    Deadline,
]
"""What a person writes: the tables of an experiment."""
RECORDED = [
    store.ExperimentMeta,
    store.Rounds,
    records.RunMeta,
    records.Probe,
    records.Interval,
    records.Completion,
    records.Sample,
]
"""What a run writes, column by column and key by key."""


@pytest.mark.parametrize("name", PAGES)
def test_a_page_of_the_reference_is_what_the_code_says(name: str) -> None:
    assert (FOLDER / name).read_text(encoding="utf-8") == PAGES[name](), "run: python -m tests.reference"


def test_nothing_else_stands_in_the_folder_of_the_reference() -> None:
    assert {path.name for path in FOLDER.iterdir()} == set(PAGES)


@pytest.mark.parametrize("kind", [*WRITTEN, *RECORDED], ids=lambda kind: kind.__name__)
def test_the_docstring_of_a_table_speaks_of_each_of_its_keys(kind: type) -> None:
    named = set(re.findall(r"\w+", " ".join(re.findall(r"`([^`]+)`", doc_of(kind)))))
    assert {field.encode_name for field in fields_of(kind)} <= named
