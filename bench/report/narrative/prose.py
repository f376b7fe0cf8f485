"""Words put together: lists, sentences, Markdown bullets. What comes from data is escaped here."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from bench.report.markdown import escaped


def listed(words: Sequence[str]) -> str:
    """Return `a, b and c`."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def sentence(text: str) -> str:
    """Return text with a full stop, and a capital where it starts with a word, not a name or `p95`."""
    text = text.strip()
    if text.split(maxsplit=1)[0].isalpha():
        text = f"{text[0].upper()}{text[1:]}"
    return text if text.endswith(".") else f"{text}."


def bullets(lines: Iterable[str]) -> list[str]:
    """Return the lines of a Markdown list."""
    return [f"- {escaped(sentence(line))}" for line in lines]


def marked(heading: str, text: str) -> str:
    """Return a line of a Markdown list with a heading in bold, capitalized."""
    return f"- **{escaped(heading[:1].upper() + heading[1:])}:** {escaped(text)}"


def count(n: int, what: str) -> str:
    """Return `1 replica` or `3 replicas`."""
    return f"{n} {what}" if n == 1 else f"{n} {what}s"
