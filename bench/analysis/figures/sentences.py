"""How figures say what they show: a few systems one by one, many by their lowest and highest."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

LISTED = 3
"""So many systems are named one by one in a sentence."""
ALL_INVALID = "Every system that was measured is INVALID, so nothing is claimed."


def by_system(figures: Mapping[str, float], said: Callable[[str], str]) -> str:
    """Return the figures with their systems, each written by `said` from the system's name.

    >>> by_system({"a": 1.0, "b": 2.0}, said=lambda name: f"{name.upper()} s")
    'A s with a and B s with b'
    """
    if len(figures) <= LISTED:
        return listed(f"{said(name)} with {name}" for name in figures)
    ordered = sorted(figures, key=lambda name: figures[name])
    first, last = ordered[0], ordered[-1]
    return f"{said(first)} with {first} to {said(last)} with {last}"


def listed(parts: Iterable[str]) -> str:
    """Return the parts as a list in a sentence.

    >>> listed(["a", "b", "c"])
    'a, b and c'
    """
    *first, last = parts
    return f"{', '.join(first)} and {last}" if first else last


def whose(names: list[str]) -> str:
    """Return systems' names, shortened where they are many.

    >>> whose(["a", "b", "c", "d", "e"])
    'a, b, c and 2 more'
    """
    return listed(names) if len(names) <= LISTED else listed([*names[:LISTED], f"{len(names) - LISTED} more"])
