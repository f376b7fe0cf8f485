"""docs/reference is generated from the code by `python -m tests.reference`, and never written by hand.

What a page says comes from types, defaults, docstrings and help texts: what is wrong or unclear there is
mended in the code. A test fails where a page on disk is not what the code says.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tests.reference import commands, experiment, figures, folder, verdicts

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "docs" / "reference"
PAGES: dict[str, Callable[[], str]] = {
    "experiment.md": experiment.page,
    "command-line.md": commands.page,
    "exit-codes.md": commands.exit_codes,
    "metrics.md": figures.page,
    "run-folder.md": folder.page,
    "verdicts.md": verdicts.page,
}
"""The pages, and what makes each."""
