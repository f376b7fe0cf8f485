"""What the policies that form whole batches have in common: nobody joins while a batch runs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import msgspec

from bench.protocols import Admission, Waiting
from bench.units import MS_PER_S

BUSY = Admission(reason="busy")
"""The answer of a policy that is asked while its batch runs: only the batch's end can change it."""


class WholeBatches(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A policy whose batches start together; it is asked only when nothing runs."""

    @property
    def max_batch(self) -> int:
        """The most requests that run together."""
        raise NotImplementedError

    @property
    def backlog(self) -> int:
        """How many must wait for it to choose as from a queue without end: a batch."""
        return self.max_batch

    @property
    def joins(self) -> bool:
        """Whether requests may join while others run: no."""
        return False

    @property
    def prefill_chunk(self) -> int | None:
        """The most prompt tokens of one step: whole prompts."""
        return None


def window_end_s(oldest: Waiting, max_wait_ms: float) -> float:
    """Return when `oldest` has waited for company long enough, counted from when it entered the queue."""
    return oldest.sent_s + max_wait_ms / MS_PER_S


def check_ascending(key: str, numbers: Sequence[int]) -> None:
    """Raise ValueError unless `numbers` is a rising list of whole numbers of at least 1."""
    if not numbers or numbers[0] < 1 or any(b <= a for a, b in pairwise(numbers)):
        raise ValueError(f"{key} = {list(numbers)} must be rising whole numbers of at least 1")


def check_at_least(least: float, **values: float | None) -> None:
    """Raise ValueError for a value below `least` or without an end (inf, nan); None is not set."""
    for key, value in values.items():
        if value is not None and not (least <= value < math.inf):
            raise ValueError(f"{key} = {value} must be a finite number of at least {least:g}")
