"""The page of keys names every kind and key of the traffic, and every key of what is searched and assumed."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import msgspec
import pytest

from bench.config import Assumptions, Capacity, Embodied, Protocol, Seeds
from bench.workload.arrivals import ARRIVALS
from bench.workload.lengths import LENGTHS
from bench.workload.load import LOADS
from bench.workload.prompts import PROMPTS

PAGE = (Path(__file__).parents[2] / "docs" / "experiments.md").read_text(encoding="utf-8")


def section(title: str) -> str:
    heading, _, rest = PAGE.partition(f"## {title}\n")
    assert rest, f"{title!r} is no section after {heading[-40:]!r}"
    return rest.partition("\n## ")[0]


@pytest.mark.parametrize(
    ("title", "family"),
    [
        ("`[workload]` `arrivals`", ARRIVALS),
        ("`[workload]` `input_tokens`, `output_tokens`", LENGTHS),
        ("`[workload]` `prompts`, `seeds`", PROMPTS | {"seeds": Seeds}),
        ("`[load]`", LOADS),
    ],
)
def test_every_kind_and_key_is_named_in_its_section(title: str, family: dict[str, Any]) -> None:
    named = set(re.findall(r"`([\w.]+)`", title + section(title)))
    assert set(family) | keys(*family.values()) <= named


@pytest.mark.parametrize(
    ("table", "kinds"),
    [("capacity", [Capacity]), ("protocol", [Protocol]), ("assumptions", [Assumptions, Embodied])],
)
def test_every_key_of_a_table_is_named_in_its_own_rows_and_no_other(table: str, kinds: list[type]) -> None:
    of, named = "", set()
    for row in section("`[capacity]`, `[protocol]`, `[assumptions]`").splitlines():
        cells = [cell.strip() for cell in row.strip("|").split("|")]
        of = cells[0].strip("`") or of
        if of == table:
            named |= set(re.findall(r"`(\w+)`", cells[1]))
    assert named == keys(*kinds)


def keys(*kinds: type) -> set[str]:
    return {field.encode_name for kind in kinds for field in msgspec.structs.fields(kind)}
