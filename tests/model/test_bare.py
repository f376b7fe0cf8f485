"""Bare generation computes the batch that the engine computes, and nothing beside it."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from bench.model.bare import generate_bare
from bench.records import Request


class Stub:
    """A model that notes what it is asked for, and a tokenizer that notes what it decodes."""

    def __init__(self) -> None:
        self.asked: dict[str, Any] = {}
        self.decoded: list[list[int]] = []

    def generate(self, ids: torch.Tensor, **options: Any) -> torch.Tensor:
        self.asked = {"ids": ids.tolist(), "mask": options["attention_mask"].tolist()}
        self.asked["config"] = options.pop("generation_config")
        self.asked["others"] = options.keys() - {"attention_mask"}
        new = torch.arange(100, 100 + self.asked["config"].max_new_tokens).expand(len(ids), -1)
        return torch.cat([ids, new], dim=1)

    def decode(self, ids: Sequence[int]) -> str:
        self.decoded.append(list(ids))
        return ""


@pytest.fixture
def stub() -> Stub:
    return Stub()


def loaded(stub: Stub, *, tokenizer: bool = True) -> Any:
    vocabulary = SimpleNamespace(tokenizer=stub if tokenizer else None)
    return SimpleNamespace(model=stub, device="cpu", vocabulary=vocabulary)


BATCH = [
    Request(uid=0, due_s=0.0, prompt_ids=(5, 6, 7), output_tokens=2),
    Request(uid=1, due_s=0.0, prompt_ids=(8,), output_tokens=4),
]


def test_prompts_are_padded_on_the_left_and_all_rows_run_as_long_as_the_longest(stub: Stub) -> None:
    generate_bare(loaded(stub), BATCH)
    assert stub.asked["ids"] == [[5, 6, 7], [0, 0, 8]]
    assert stub.asked["mask"] == [[1, 1, 1], [0, 0, 1]]
    config = stub.asked["config"]
    assert (config.max_new_tokens, config.do_sample, config.eos_token_id) == (4, False, None)


def test_nothing_looks_at_the_steps(stub: Stub) -> None:
    generate_bare(loaded(stub), BATCH)
    assert stub.asked["others"] == set()


def test_each_requests_own_output_is_decoded_as_a_service_would(stub: Stub) -> None:
    generate_bare(loaded(stub), BATCH)
    assert stub.decoded == [[100, 101], [100, 101, 102, 103]]
    stub.decoded.clear()
    generate_bare(loaded(stub, tokenizer=False), BATCH)
    assert stub.decoded == []
