"""Text in Markdown: what would be markup is escaped."""

from __future__ import annotations


def escaped(text: str) -> str:
    """Escape what would be markup in a Markdown table cell."""
    for mark in ("\\", "|", "*", "_", "`", "<", "[", "]"):
        text = text.replace(mark, f"\\{mark}")
    return text.replace("\n", " ")
