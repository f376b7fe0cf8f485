"""Vocabularies for the tests: with a tokenizer that needs no model, and without one."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from bench.protocols import Tokenizer


class CharacterPairs:
    """Two characters a token from the left: a slice survives only if decoding and encoding agree."""

    def encode(self, text: str) -> list[int]:
        return [_code(text[i : i + 2]) for i in range(0, len(text), 2)]

    def decode(self, ids: Sequence[int]) -> str:
        return "".join(chr(i // 4096) + (chr(i % 4096) if i % 4096 else "") for i in ids)


class Forgetful(CharacterPairs):
    """Lower-cases what it encodes, as some tokenizers do: it still round-trips its own ids."""

    def encode(self, text: str) -> list[int]:
        return super().encode(text.lower())


class PrefixMarking(CharacterPairs):
    """Drops a leading space, so that slices beginning with one come back different."""

    def decode(self, ids: Sequence[int]) -> str:
        return super().decode(ids).removeprefix(" ")


class FakeVocabulary(msgspec.Struct, frozen=True):
    ordinary_ids: Sequence[int] = range(10, 1010)
    tokenizer: Tokenizer | None = None


def _code(pair: str) -> int:
    first, second = ord(pair[0]), ord(pair[1]) if len(pair) == 2 else 0
    return min(first, 4095) * 4096 + min(second, 4095)
