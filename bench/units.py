"""Every conversion and physical constant, so that no bare 1000 or 3600 stands in a formula."""

from __future__ import annotations

MS_PER_S = 1_000.0
NS_PER_S = 1_000_000_000.0
MINUTE_S = 60.0
HOUR_S = 3_600.0
DAY_S = 86_400.0
HOURS_PER_DAY = 24.0
BYTES_PER_GB = 1e9
"""GB is decimal throughout (10⁹ bytes), as NVML's and the vendors' sheets mix both."""
J_PER_KWH = 3.6e6
W_PER_KW = 1_000.0
MW_PER_W = 1_000.0
"""Milliwatt per watt: NVML reports power in mW."""
MJ_PER_J = 1_000.0
"""Millijoule per joule: NVML's energy counter counts mJ."""
UJ_PER_J = 1_000_000.0
"""Microjoule per joule: RAPL counts µJ."""
PER_1K = 1_000.0
PERCENT = 100.0


def to_ms(seconds: float) -> float:
    """Convert seconds to milliseconds."""
    return seconds * MS_PER_S


def to_gb(n_bytes: float) -> float:
    """Convert bytes to decimal gigabytes."""
    return n_bytes / BYTES_PER_GB


def joules_to_kwh(joules: float) -> float:
    """Convert joules to kilowatt-hours."""
    return joules / J_PER_KWH


def per_day_to_rps(requests_per_day: float) -> float:
    """Convert requests a day to requests a second (250,000 a day is 2.89/s)."""
    return requests_per_day / DAY_S
