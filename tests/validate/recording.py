"""Where validations write what they found: results/validation/latest.json, one entry a claim.

An entry says `value`, `bound`, `direction`, `ok`, `n` and `seed`. Each validation brings its own entries and
leaves the others' as they are, so each can be run by itself.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import msgspec

from bench.store import write_json

LATEST = Path("results/validation/latest.json")


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """A claim against its bound: a `value` found in `n` trials, drawn with `seed` (None: nothing drawn)."""

    value: float
    bound: float
    direction: Literal["at most", "at least"]
    n: int
    seed: int | None = None

    @property
    def ok(self) -> bool:
        """Whether the claim holds; never for a value that is no number."""
        return self.value <= self.bound if self.direction == "at most" else self.value >= self.bound

    def __str__(self) -> str:
        """Return the claim as a line for people."""
        verdict = "ok" if self.ok else "FAILED"
        return f"{self.value:.4g}, {self.direction} {self.bound:.4g}: {verdict} (n = {self.n})"


def record(checks: Mapping[str, Check], path: Path = LATEST) -> None:
    """Put `checks` into the file at `path`, replacing entries of the same names; sorted by name."""
    entries: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    for name, check in checks.items():
        entries[name] = {
            "value": check.value,
            "bound": check.bound,
            "direction": check.direction,
            "ok": check.ok,
            "n": check.n,
            "seed": check.seed,
        }
    write_json(path, dict(sorted(entries.items())))
