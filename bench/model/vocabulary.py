"""What prompts may know of a model: which token ids are ordinary, and how text becomes tokens.

Special tokens (beginning, end, padding, chat markers) never occur in a random prompt: an end token in
the middle of a prompt would be a different traffic. A model with random weights has no tokenizer; its
ordinary ids are the whole embedding table without the ids that its configuration names.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec


class TextTokenizer:
    """A Hugging Face tokenizer behind `protocols.Tokenizer`: plain text in, ids out, nothing added."""

    def __init__(self, inner: Any) -> None:
        """Wrap `inner`, a transformers tokenizer."""
        self._inner = inner

    def encode(self, text: str) -> list[int]:
        """Return the token ids of `text`, without special tokens."""
        # verbose=False: a text longer than the context is cut up by the caller, no reason to warn.
        ids = self._inner(text, add_special_tokens=False, verbose=False)["input_ids"]
        return [int(i) for i in ids]

    def encode_chat(self, text: str) -> list[int] | None:
        """Return a conversation in which the user says `text`, up to where the model answers.

        None where the tokenizer has no chat template, as that of a base model.
        """
        if not getattr(self._inner, "chat_template", None):
            return None
        said = [{"role": "user", "content": text}]
        # A model that would think first answers at once; templates that know no such switch ignore it.
        written = self._inner.apply_chat_template(
            said, tokenize=False, add_generation_prompt=True, enable_thinking=False
        )
        return self.encode(str(written))

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of `ids`, special tokens included."""
        return str(self._inner.decode(list(ids), skip_special_tokens=False))


class ModelVocabulary(msgspec.Struct, frozen=True, kw_only=True):
    """`protocols.Vocabulary` of a loaded model."""

    ordinary_ids: Sequence[int]
    tokenizer: TextTokenizer | None


def vocabulary_of(tokenizer: Any | None, vocab_size: int, special_ids: Sequence[int]) -> ModelVocabulary:
    """Return the vocabulary of a transformers `tokenizer`, or of a bare embedding table.

    `vocab_size` is the model's number of embeddings, which may exceed the tokenizer's (padded tables)
    and bounds it; `special_ids` are the ids that the model's configuration names.
    """
    excluded = set(special_ids)
    if tokenizer is None:
        return ModelVocabulary(
            ordinary_ids=tuple(i for i in range(vocab_size) if i not in excluded), tokenizer=None
        )
    excluded |= set(tokenizer.all_special_ids) | set(tokenizer.get_added_vocab().values())
    known = sorted({i for i in tokenizer.get_vocab().values() if i < vocab_size} - excluded)
    return ModelVocabulary(ordinary_ids=tuple(known), tokenizer=TextTokenizer(tokenizer))
