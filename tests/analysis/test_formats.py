"""Format checks: what passes, and how two systems that answered the same prompts are compared."""

from __future__ import annotations

import pytest

from bench.analysis.drift import Pair
from bench.analysis.formats import check_formats, format_drop, has_digits, has_fence, has_json, has_keys
from bench.analysis.output_quality import Check
from tests.analysis.answering import said

GOOD = '{"customer": "Anna", "order": "12345", "issue": "late"}'
KEYS = ("customer", "order", "issue")


def case(kind: str = "json") -> Pair:
    return said("", "", kind, keys=KEYS, digits=("12345",))


@pytest.mark.parametrize(
    ("text", "parses", "keys"),
    [
        (GOOD, True, True),
        (f"Here it is:\n```json\n{GOOD}\n```", True, True),
        (f"{GOOD}\n\nMessage: {{and the base model goes on", True, True),
        ('{"customer": "Anna", "order": "12345"}', True, False),
        ('{"customer": "Anna", "order": 12345, "issue": "la', False, False),
        ("{'customer': 'Anna'}", False, False),
        ("no object at all", False, False),
    ],
)
def test_json_is_the_first_object_and_its_keys(text: str, parses: bool, keys: bool) -> None:
    assert has_json(case(), text) == parses
    assert has_keys(case(), text) == keys


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("```sh\ncurl x\n```", True),
        ("Sure:\n```\na\nb\n```\nDone.", True),
        ("```\nnever closed", False),
        ("`inline` code", False),
        ("text ``` in a line ```", False),
    ],
)
def test_a_code_fence_is_opened_and_closed(text: str, holds: bool) -> None:
    assert has_fence(case("fence"), text) == holds


@pytest.mark.parametrize(
    ("text", "holds"),
    [("order 12345.", True), ("#12345,", True), ("123456", False), ("order 1234 5", False), ("", False)],
)
def test_digits_are_copied_whole_or_not(text: str, holds: bool) -> None:
    assert has_digits(case("reply"), text) == holds


def test_what_the_prompt_has_begun_belongs_to_the_answer() -> None:
    checks = {c.name: c for c in check_formats([said(GOOD[1:], "nothing", "json", opening="{", keys=KEYS)])}
    assert checks["json"].own.value == 1
    assert checks["json"].reference.value == 0


def compared(lost: int, won: int, both: int, neither: int = 0) -> tuple[Check, ...]:
    one, two = GOOD, "sorry, I cannot"
    texts = [(two, one)] * lost + [(one, two)] * won + [(one, one)] * both + [(two, two)] * neither
    return check_formats([said(own, ref, "json", keys=KEYS, digits=("12345",)) for own, ref in texts])


def test_a_lost_format_shows_in_mcnemar_and_in_the_drop() -> None:
    checks = {check.name: check for check in compared(lost=20, won=2, both=78)}
    assert set(checks) == {"json", "keys", "digits", "well_formed"}
    keys = checks["keys"]
    assert (keys.lost, keys.won) == (20, 2)
    assert keys.p < 0.001
    drop = format_drop(tuple(checks.values()))
    assert drop.value == pytest.approx(0.18)
    assert drop.low is not None
    assert drop.low > 0.09


def test_equal_outputs_of_enough_prompts_exclude_a_drop_of_three_points() -> None:
    assert (format_drop(compared(0, 0, 125)).high or 1) < 0.03
    assert (format_drop(compared(0, 0, 40)).high or 0) > 0.05


def test_a_check_that_the_baseline_never_passes_is_not_informative() -> None:
    checks = compared(lost=0, won=5, both=0, neither=60)
    assert not any(check.informative for check in checks)
    drop = format_drop(checks)
    assert drop.value is None
    assert "not informative" in drop.note


def test_only_informative_checks_make_a_well_formed_answer() -> None:
    pairs = [said("order 12345", "order 12345", "json", keys=KEYS, digits=("12345",)) for _ in range(30)]
    checks = {check.name: check for check in check_formats(pairs)}
    assert not checks["json"].informative
    assert checks["well_formed"].reference.value == 1
    assert format_drop(tuple(checks.values())).value == 0
