"""What requests say: prompts of exactly the wanted token counts, no two alike.

Equal prompts would let any cache, ours or the hardware's, answer some of them for free. Random ids
need no tokenizer and cost no tokenization; text from a corpus is tokenized by the engine inside the
measured time, and makes a real model generate plausible output.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np

from bench.errors import ConfigError
from bench.protocols import Prompt, Prompts, Tokenizer, Vocabulary

SHIPPED_CORPUS = Path(__file__).parents[1] / "data" / "corpus" / "prompts.txt"


class RandomTokens(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Token ids drawn uniformly from the vocabulary's ordinary ones."""

    def draw(self, lengths: Sequence[int], vocabulary: Vocabulary, rng: np.random.Generator) -> list[Prompt]:
        """Return one prompt per length; ConfigError where so many different ones do not exist."""
        ids = np.asarray(vocabulary.ordinary_ids)
        for length, wanted in Counter(map(int, lengths)).items():
            if wanted > len(ids) ** length:
                raise ConfigError(
                    f"{wanted} different prompts of {length} token(s) do not exist in a vocabulary of "
                    f"{len(ids)}; ask for longer prompts or fewer requests"
                )
        seen: set[tuple[int, ...]] = set()
        return [Prompt(ids=self._fresh(int(length), ids, rng, seen)) for length in lengths]

    def _fresh(
        self, length: int, ids: np.ndarray, rng: np.random.Generator, seen: set[tuple[int, ...]]
    ) -> tuple[int, ...]:
        """Draw until the prompt was not `seen` before."""
        while (prompt := tuple(rng.choice(ids, length).tolist())) in seen:
            pass
        seen.add(prompt)
        return prompt


class Corpus(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Slices of a text, each beginning at another token; by default of the text that ships with bench.

    `path` is a UTF-8 file, relative to the working directory. A slice is only taken if tokenizing its
    text gives back its ids, so that the engine, which gets the text, sees the wanted length.
    """

    path: str | None = None

    def draw(self, lengths: Sequence[int], vocabulary: Vocabulary, rng: np.random.Generator) -> list[Prompt]:
        """Return one prompt per length; ConfigError without tokenizer or with too short a corpus."""
        tokenizer = vocabulary.tokenizer
        if tokenizer is None:
            raise ConfigError(
                'workload.prompts = "corpus" needs a tokenizer and this model has none; use "random"'
            )
        ids = tokenizer.encode(self._text())
        seen: set[tuple[int, ...]] = set()
        taken: set[int] = set()
        return [self._slice(int(length), ids, tokenizer, rng, taken, seen) for length in lengths]

    def _text(self) -> str:
        path = SHIPPED_CORPUS if self.path is None else Path(self.path)
        try:
            return path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(
                f"workload.prompts.path = {str(path)!r} cannot be read as UTF-8 text ({error}); "
                "name a text file"
            ) from error

    def _slice(
        self,
        length: int,
        ids: list[int],
        tokenizer: Tokenizer,
        rng: np.random.Generator,
        taken: set[int],
        seen: set[tuple[int, ...]],
    ) -> Prompt:
        """Look from a random token onwards for a slice that is new and survives tokenization."""
        places = len(ids) - length + 1
        first = int(rng.integers(places)) if places > 0 else 0
        for step in range(places):
            start = (first + step) % places
            prompt = tuple(ids[start : start + length])
            if start in taken or prompt in seen:
                continue
            text = tokenizer.decode(prompt)
            if tuple(tokenizer.encode(text)) == prompt:
                taken.add(start)
                seen.add(prompt)
                return Prompt(ids=prompt, text=text)
        raise ConfigError(
            f"the corpus of {len(ids)} tokens holds no further prompt of {length} tokens; "
            'name a longer text in workload.prompts.path, or use prompts = "random"'
        )


PROMPTS: dict[str, type[Prompts]] = {"random": RandomTokens, "corpus": Corpus}
"""The `kind`s of `[workload] prompts`."""
