"""Stock `generate` without anything of ours around it: what the harness's own cost is held against.

No token is timed, nothing synchronizes the device between steps, no logit is looked at and nobody waits in a
queue; the batch, its padding and the number of tokens are those that the engine `generate` computes.
"""

from __future__ import annotations

from collections.abc import Sequence

from bench.model.load import LoadedModel
from bench.records import Request

_PAD_ID = 0


def generate_bare(loaded: LoadedModel, batch: Sequence[Request]) -> None:
    """Generate exactly the longest of the batch's output lengths for all of it, greedily; decode the texts.

    The prompts' ids are taken as they are. Returns when the device has finished.
    """
    import torch
    from transformers import GenerationConfig

    width = max(len(request.prompt_ids) for request in batch)
    steps = max(request.output_tokens for request in batch)
    padding = [width - len(request.prompt_ids) for request in batch]
    ids = [[_PAD_ID] * pad + list(request.prompt_ids) for pad, request in zip(padding, batch, strict=True)]
    mask = [[0] * pad + [1] * (width - pad) for pad in padding]
    device = loaded.device
    config = GenerationConfig(
        max_new_tokens=steps, do_sample=False, num_beams=1, pad_token_id=_PAD_ID, disable_compile=True
    )  # it knows no end token, so every row runs for all steps
    with torch.inference_mode():
        sequences = loaded.model.generate(
            torch.tensor(ids, device=device),
            attention_mask=torch.tensor(mask, device=device),
            generation_config=config,
        ).tolist()  # waits for the device
    if loaded.vocabulary.tokenizer is not None:
        for request, sequence in zip(batch, sequences, strict=True):
            loaded.vocabulary.tokenizer.decode(sequence[width : width + request.output_tokens])
