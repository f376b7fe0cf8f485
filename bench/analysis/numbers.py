"""How a number is written for people and in CSVs: plain digits, never an exponent."""

from __future__ import annotations

import numpy as np

SIGNIFICANT = 6
"""Significant digits of a figure in a CSV; more would be noise."""


def plain(value: float | None, digits: int) -> str:
    """Return a number with `digits` significant digits, without exponent or trailing zeros; '' for None.

    >>> plain(0.0000123456789, 6)
    '0.0000123457'
    """
    if value is None:
        return ""
    text: str = np.format_float_positional(value, precision=digits, fractional=False, trim="-")
    return text


def alike(one: float, other: float) -> bool:
    """Say whether two figures are the same in every digit that a CSV holds.

    >>> alike(420.0, 419.9999999), alike(420.0, 419.999)
    (True, False)
    """
    return plain(one, SIGNIFICANT) == plain(other, SIGNIFICANT)


def percent(change_pct: float) -> str:
    """Return a change in percent with its sign and one digit after the point; a smaller one is not zero.

    >>> percent(12.34), percent(-0.0023), percent(0.0)
    ('+12.3', '-0.002', '+0.0')
    """
    if change_pct == 0 or abs(change_pct) >= 0.05:
        return f"{change_pct:+.1f}"
    return f"{'+' if change_pct > 0 else '-'}{shown(abs(change_pct), 1)}"


def shown(value: float | None, digits: int = 4) -> str:
    """Return a number with `digits` significant digits, but all digits before the point; '-' for None.

    >>> shown(13727.23), shown(0.123456)
    ('13727', '0.1235')
    """
    if value is None:
        return "-"
    return f"{value:.0f}" if abs(value) >= 10**digits else plain(value, digits)
