"""In which groups of settings systems differ, and the systems that lie between two of them.

A *group* is what an experiment file chooses by one key of a system: precision, engine, batching, attention, …
Two systems that differ in k groups at once are opposite corners of a cube; where the other corners were
measured as well, what each change did can be told (a full 2^k factorial), and is in `factorial`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import combinations
from typing import Any

import msgspec

from bench.analysis.system import MetricSet

_CACHE = "kv_cache"


class Factor(msgspec.Struct, frozen=True, kw_only=True):
    """A group of settings with two levels, in words."""

    group: str
    low: str
    high: str

    @property
    def title(self) -> str:
        """The group with both levels."""
        return f"{self.group} ({self.low} to {self.high})"


class Corner(msgspec.Struct, frozen=True, kw_only=True):
    """A system of a cube, and the groups in which it is at the high level."""

    raised: frozenset[str]
    system: MetricSet


class Cube(msgspec.Struct, frozen=True, kw_only=True):
    """The factors in which two systems differ, and all 2^k systems between them: the low one first."""

    factors: tuple[Factor, ...]
    corners: tuple[Corner, ...]

    @property
    def groups(self) -> tuple[str, ...]:
        """The factors' groups."""
        return tuple(factor.group for factor in self.factors)

    @property
    def names(self) -> tuple[str, ...]:
        """The systems' names."""
        return tuple(corner.system.name for corner in self.corners)

    @property
    def invalid(self) -> tuple[str, ...]:
        """The systems of which a run is INVALID."""
        clients = [(corner.system.name, corner.system.client) for corner in self.corners]
        return tuple(name for name, client in clients if client is not None and client.level == "INVALID")


def changed_groups(one: MetricSet, two: MetricSet) -> tuple[str, ...]:
    """Return the groups in which two systems differ, none where the settings of either are unknown.

    A KV cache that only follows from the engine, or from compiling, is no change of its own.
    """
    if one.context is None or two.context is None:
        return ()
    first, second = _groups(one.context.settings), _groups(two.context.settings)
    changed = [group for group in first | second if first.get(group, {}) != second.get(group, {})]
    if _cache_follows(one.context.settings) and _cache_follows(two.context.settings):
        changed = [group for group in changed if group != _CACHE]
    return tuple(changed)


def cube(low: MetricSet, high: MetricSet, others: Iterable[MetricSet]) -> Cube | None:
    """Return the 2^k systems between two that differ in k >= 2 groups; None where any was not measured."""
    groups = changed_groups(low, high)
    if len(groups) < 2:
        return None
    known = [system for system in others if system.context is not None]
    corners = [Corner(raised=frozenset(), system=low)]
    for n in range(1, len(groups)):
        for raised in combinations(groups, n):
            found = (system for system in known if _is_corner(system, low, high, raised, groups))
            if (system := next(found, None)) is None:
                return None
            corners.append(Corner(raised=frozenset(raised), system=system))
    corners.append(Corner(raised=frozenset(groups), system=high))
    return Cube(factors=tuple(_factor(group, low, high) for group in groups), corners=tuple(corners))


def _is_corner(
    system: MetricSet, low: MetricSet, high: MetricSet, raised: tuple[str, ...], groups: tuple[str, ...]
) -> bool:
    """Say whether a system has the high level of the groups in `raised`, and else the low one."""
    return set(changed_groups(system, low)) == set(raised) and set(changed_groups(system, high)) == (
        set(groups) - set(raised)
    )


def _groups(settings: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the settings that are set, by their group; a group of one setting has it under the key ''."""
    groups: dict[str, dict[str, Any]] = {}
    for key, value in settings.items():
        group, _, name = key.partition(".")
        if value is not None:
            groups.setdefault(group, {})[name] = value
    return groups


def _factor(group: str, low: MetricSet, high: MetricSet) -> Factor:
    assert low.context is not None
    assert high.context is not None
    one, two = (_groups(side.context.settings).get(group, {}) for side in (low, high) if side.context)
    if one.get("kind") != two.get("kind"):
        return Factor(group=group, low=str(one.get("kind", "none")), high=str(two.get("kind", "none")))
    keys = [key for key in one | two if one.get(key) != two.get(key)]
    return Factor(group=group, low=_words(one, keys), high=_words(two, keys))


def _words(level: Mapping[str, Any], keys: Iterable[str]) -> str:
    """Return the settings that make a level: `max_size 8`; `none` where it has none of them."""
    return ", ".join(f"{key} {level[key]}".strip() for key in keys if key in level) or "none"


def _cache_follows(settings: Mapping[str, Any]) -> bool:
    """Say whether a system's KV cache is the one that its engine has by itself.

    That is the dynamic one, with `compile` the static one; a paged one exists in no engine with another.
    """
    kind = settings.get("kv_cache.kind")
    compiles = any(key.startswith("compile.") for key in settings)
    return kind == "paged" or kind == ("static" if compiles else "dynamic")
