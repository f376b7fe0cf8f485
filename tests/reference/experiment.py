"""The page of the experiment file: every table, every key, every kind of every plug-in family."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bench.config import (
    EXPECTATIONS,
    Assumptions,
    Capacity,
    Compile,
    Embodied,
    Experiment,
    Model,
    Objectives,
    Protocol,
    Quality,
    Seeds,
    System,
    Workload,
)
from bench.model.engines import ENGINES
from bench.model.kv_cache import KV_CACHES
from bench.model.locate import architectures
from bench.model.precision import PRECISIONS
from bench.serving.policies import POLICIES, Deadline
from bench.workload.arrivals import ARRIVALS
from bench.workload.lengths import LENGTHS
from bench.workload.load import LOADS
from bench.workload.prompts import PROMPTS
from tests.reference.words import MADE, doc_of, keys_of, refusals

TABLES: dict[str, tuple[type, str]] = {
    "[workload]": (Workload, "workload"),
    "[workload.seeds]": (Seeds, "workloadseeds"),
    "[model]": (Model, "model"),
    "[systems.NAME]": (System, "systemsname"),
    "[systems.NAME.compile]": (Compile, "systemsnamecompile"),
    "[objectives]": (Objectives, "objectives"),
    "[quality]": (Quality, "quality"),
    "[capacity]": (Capacity, "capacity"),
    "[protocol]": (Protocol, "protocol"),
    "[assumptions]": (Assumptions, "assumptions"),
    "[assumptions.embodied]": (Embodied, "assumptionsembodied"),
}
"""The tables of the file by their headings, with their anchors."""
FAMILIES: dict[str, tuple[str, Mapping[str, type]]] = {
    "load": ("`[load]`", LOADS),
    "arrivals": ("`[workload] arrivals`", ARRIVALS),
    "lengths": ("`[workload] input_tokens, output_tokens`", LENGTHS),
    "prompts": ("`[workload] prompts`", PROMPTS),
    "precision": ("`[systems.NAME] precision`", PRECISIONS),
    "engine": ("`[systems.NAME] engine`", ENGINES),
    "batching": ("`[systems.NAME] batching`", POLICIES),
    "kv_cache": ("`[systems.NAME] kv_cache`", KV_CACHES),
}
"""The plug-in families: what is chosen by `kind`."""
KINDS = {
    "load": "load",
    "arrivals": "arrivals",
    "input_tokens": "lengths",
    "output_tokens": "lengths",
    "prompts": "prompts",
    "precision": "precision",
    "engine": "engine",
    "batching": "batching",
    "kv_cache": "kv_cache",
}
"""Which family a key chooses from."""
INTRO = f"""# The experiment file

{MADE}

An experiment is one TOML file, complete by itself. An unknown key, a wrong type or an impossible value is one
line with file, key and the nearest valid name; `bench check` says it without loading anything. A value called
*kind* is chosen from a family below: a table with `kind` and that kind's own keys, or the bare name where it
needs no other (`batching = "none"`). A key without a default may be left out where it is not *required*.
How to think about these choices: [writing an experiment](../experiments.md)."""


def page() -> str:
    """Return the page."""
    lines = [INTRO, "", "## The top of the file", "", doc_of(Experiment), *_keys(Experiment)]
    for heading, (kind, _) in TABLES.items():
        lines += ["", f"## `{heading}`", "", doc_of(kind), *_keys(kind), *refusals(kind)]
    lines += ["", "## `[expectations]`", "", *_expectations()]
    for title, family in FAMILIES.values():
        lines += ["", f"## Kinds of {title}"]
        for name, kind in family.items():
            lines += ["", f"### `{name}`", "", doc_of(kind), *_keys(kind), *refusals(kind)]
            if "deadline" in kind.__annotations__:
                lines += ["", f"`deadline`: {doc_of(Deadline)}", *keys_of(Deadline), *refusals(Deadline)]
    lines += ["", "## Shipped architectures", "", _architectures()]
    return "\n".join(lines) + "\n"


def _keys(kind: type) -> list[str]:
    links = {key: f"[kind](#kinds-of-{anchor(title)})" for key, title in _chosen(kind).items()}
    links |= {key: f"[table](#{TABLES[heading][1]})" for key, heading in _nested(kind).items()}
    return keys_of(kind, tables=links)


def _chosen(kind: type) -> dict[str, str]:
    if kind not in (Experiment, Workload, System):
        return {}
    return {key: FAMILIES[family][0] for key, family in KINDS.items() if key in kind.__annotations__}


def _nested(kind: type) -> dict[str, str]:
    if kind is Experiment:
        top = {heading.strip("[]"): heading for heading in TABLES if "." not in heading}
        return top | {"systems": "[systems.NAME]"}
    below: dict[Any, dict[str, str]] = {
        Workload: {"seeds": "[workload.seeds]"},
        System: {"compile": "[systems.NAME.compile]"},
        Assumptions: {"embodied": "[assumptions.embodied]"},
    }
    return below.get(kind, {})


def anchor(title: str) -> str:
    """Return the anchor that a heading has on GitHub."""
    kept = "".join(character for character in title.lower() if character.isalnum() or character in " -_")
    return kept.replace(" ", "-")


def _expectations() -> list[str]:
    stated = "\n".join(f'{name} = "{expected}"' for name, expected in EXPECTATIONS.items())
    return [
        "What becomes of a metric (by its name in the CSV) or of `quality`, stated before it is measured.",
        "Without the table:",
        "",
        "```toml",
        "[expectations]",
        stated,
        "```",
    ]


def _architectures() -> str:
    names = ", ".join(f"`{name}`" for name in architectures())
    return f'`[model] id` with `weights = "random"`: {names}; or a folder with a `config.json`.'
