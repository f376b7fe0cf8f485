"""How a number is written for people and in CSVs: plain digits, never an exponent."""

from __future__ import annotations

import numpy as np


def plain(value: float | None, digits: int) -> str:
    """Return a number with `digits` significant digits, without exponent or trailing zeros; '' for None.

    >>> plain(0.0000123456789, 6)
    '0.0000123457'
    """
    if value is None:
        return ""
    text: str = np.format_float_positional(value, precision=digits, fractional=False, trim="-")
    return text


def shown(value: float | None, digits: int = 4) -> str:
    """Return a number with `digits` significant digits, but all digits before the point; '-' for None.

    >>> shown(13727.23), shown(0.123456)
    ('13727', '0.1235')
    """
    if value is None:
        return "-"
    return f"{value:.0f}" if abs(value) >= 10**digits else plain(value, digits)
