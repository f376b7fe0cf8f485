"""What was found when outputs of one system are held against those of another, or of itself.

Figures only: how they come about is in `quality` (held-out text), `drift`, `formats` and `tone` (continued
prompts); what is made of them in `quality_gate`.
"""

from __future__ import annotations

import msgspec

from bench.records import Value


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """One check of a format on the prompts that ask for it, paired.

    `reference` and `own` are shares that passed, with Wilson's interval. `lost` prompts only the reference
    passed, `won` only the other; `p` is McNemar's, and `drop` the difference with its interval. An
    uninformative check is one that the reference itself hardly ever passes.
    """

    name: str
    label: str
    reference: Value
    own: Value
    lost: int
    won: int
    p: float
    drop: Value
    informative: bool


class Shift(msgspec.Struct, frozen=True, kw_only=True):
    """One statistic of tone: means of the reference and of the other, and the paired difference.

    `shift` is in standard deviations of the reference's outputs, with a 90 % interval: two one-sided tests at
    5 % find the two equivalent within a limit where it lies inside. Missing where neither varies.
    """

    name: str
    label: str
    reference: float | None
    own: float | None
    shift: Value


class Held(msgspec.Struct, frozen=True, kw_only=True):
    """One set of outputs held against another: every measure by name, the format checks, the tone."""

    measures: dict[str, Value]
    checks: tuple[Check, ...] = ()
    tone: tuple[Shift, ...] = ()


class OutputQuality(msgspec.Struct, frozen=True, kw_only=True):
    """A system's outputs against the baseline's, and, for the baseline, its own at another batch size.

    The second is the noise floor. `lacking` says why continued prompts that were asked for are not there;
    empty where they are, or were not asked for. `how` says what was made, `floor` how the floor was.
    """

    against_baseline: Held | None = None
    against_itself: Held | None = None
    lacking: str = ""
    how: str = ""
    floor: str = ""
