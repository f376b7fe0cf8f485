from __future__ import annotations

import pytest

from bench.model.hub import explain


class _Response:
    """As much of a response as the hub's errors look at."""

    headers: dict[str, str] = {}
    request = None
    status_code = 403


def hub_error(kind: str) -> OSError:
    """Return the OSError that transformers raises around the hub client's `kind`."""
    from huggingface_hub import errors

    cause_type = getattr(errors, kind)
    try:
        cause = cause_type("from the hub", response=_Response())
    except TypeError:
        cause = cause_type("from the hub")
    error = OSError("You are trying to access a repo.\nSecond line")
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("GatedRepoError", "is gated; accept its terms at https://huggingface.co/org/model and run"),
        ("RepositoryNotFoundError", "no model on the hub; check the id"),
        ("RevisionNotFoundError", "has no such revision"),
        ("OfflineModeIsEnabled", "HF_HUB_OFFLINE forbids"),
        ("LocalEntryNotFoundError", "the hub cannot be reached"),
    ],
)
def test_each_reason_has_its_own_line_and_remedy(kind: str, says: str) -> None:
    line = explain(hub_error(kind), "org/model")
    assert line.startswith("org/model: ")
    assert says in line
    assert "\n" not in line


def test_another_reason_keeps_its_first_line() -> None:
    assert (
        explain(OSError("no file named x\nmore"), "org/model")
        == "org/model: cannot be loaded: no file named x"
    )
