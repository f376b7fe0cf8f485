"""The seams, signatures only: what each room promises to the others.

A plug-in is an entry of a plain dict in its family's file; its Struct's fields are its TOML keys.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from bench.records import Generation, Request

if TYPE_CHECKING:
    import numpy as np


class Arrivals(Protocol):
    """A law of arrival times."""

    def times_s(self, n: int, rate_rps: float, rng: np.random.Generator) -> np.ndarray:
        """Return `n` ascending times from 0 whose realised mean rate is exactly `rate_rps`."""
        ...


class Lengths(Protocol):
    """A law of token counts."""

    @property
    def longest(self) -> int:
        """Return the most tokens that can be drawn."""
        ...

    def draw(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """Return `n` whole token counts of at least 1."""
        ...


class Tokenizer(Protocol):
    """What prompts and engines need of a tokenizer."""

    def encode(self, text: str) -> list[int]:
        """Return the token ids of `text`, without special tokens."""
        ...

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of `ids`."""
        ...


class Vocabulary(Protocol):
    """What a prompt source must know of the model: which ids are ordinary tokens, and how to tokenize."""

    @property
    def ordinary_ids(self) -> Sequence[int]:
        """Return the ids that are neither special nor unused."""
        ...

    @property
    def tokenizer(self) -> Tokenizer | None:
        """Return the tokenizer, None where the model has none (random weights)."""
        ...


class Prompt(msgspec.Struct, frozen=True):
    """A prompt of a wanted length; `text` only where it was cut from a corpus."""

    ids: tuple[int, ...]
    text: str | None = None


class Prompts(Protocol):
    """A source of prompts."""

    def draw(self, lengths: Sequence[int], vocabulary: Vocabulary, rng: np.random.Generator) -> list[Prompt]:
        """Return one prompt per wanted length, no two alike."""
        ...


class Load(Protocol):
    """At which rate latency is measured."""

    def rate_rps(self, baseline_capacity_rps: float | None, workload_rps: float) -> float:
        """Return the common rate of all systems, in requests per second."""
        ...


class Waiting(Protocol):
    """What a policy may see of a waiting request."""

    @property
    def request(self) -> Request:
        """The request."""
        ...

    @property
    def sent_s(self) -> float:
        """When it entered the queue."""
        ...


class Admission(msgspec.Struct, frozen=True):
    """A policy's answer: the indices of the waiting requests that go now, or when to ask again.

    An empty `take` with `wake_s = None` means: only a new arrival can change the answer.
    """

    take: tuple[int, ...] = ()
    reason: str = ""
    wake_s: float | None = None


class Policy(Protocol):
    """A batching policy: a pure function of what waits, what runs and the time."""

    @property
    def max_batch(self) -> int:
        """The most requests that it ever lets run together."""
        ...

    def admit(self, waiting: Sequence[Waiting], running: int, now_s: float, *, draining: bool) -> Admission:
        """Decide which waiting requests (oldest first) join now."""
        ...


class Engine(Protocol):
    """Generates for a batch; raises when the batch as a whole failed."""

    @property
    def max_context(self) -> int:
        """The most prompt plus output tokens that a request may have."""
        ...

    def generate(self, batch: Sequence[Request]) -> list[Generation]:
        """Return one generation per request, in the batch's order."""
        ...


class Meter(Protocol):
    """A source of readings. What it cannot read is in `missing` with the reason, from the start."""

    @property
    def missing(self) -> Mapping[str, str]:
        """Field to reason, for every field that this meter knows and cannot read."""
        ...

    @property
    def facts(self) -> Mapping[str, Any]:
        """Description of the device and of the reading methods, for `run.json`."""
        ...

    @property
    def simulated(self) -> bool:
        """Whether the readings come from a modelled device."""
        ...

    def read(self) -> list[tuple[str, float, str | None]]:
        """Return (field, value, gpu uuid) for every field that can be read now."""
        ...

    def close(self) -> None:
        """Release the device; never raises."""
        ...
