"""`results/evaluation.ipynb` is made from its script by `python -m tests.notebook`, never by hand."""

from __future__ import annotations

from bench.report.notebook_file import as_written
from tests.notebook.pairs import COMMITTED

if __name__ == "__main__":
    COMMITTED.write_text(as_written(), encoding="utf-8")
