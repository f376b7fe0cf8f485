"""Write every page of docs/reference anew."""

from __future__ import annotations

from tests.reference import FOLDER, PAGES

FOLDER.mkdir(parents=True, exist_ok=True)
for name, page in PAGES.items():
    (FOLDER / name).write_text(page(), encoding="utf-8")
