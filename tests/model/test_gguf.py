"""The GGUF conversion on a real, very small GGUF file that the test writes itself."""

from __future__ import annotations

import string
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.config import Model
from bench.model.fetch import convert_gguf
from bench.model.load import load_model, quieten
from bench.model.precision import Fp16

gguf = pytest.importorskip("gguf", reason="the extra [gguf] is not installed")

HIDDEN, KEYS, INNER = 32, 16, 64
VOCABULARY = ["<unk>", "<s>", "</s>", *string.ascii_lowercase, "Ġ", "th", "he"]
MATRICES = {
    "attn_q": (HIDDEN, HIDDEN),
    "attn_k": (KEYS, HIDDEN),
    "attn_v": (KEYS, HIDDEN),
    "attn_output": (HIDDEN, HIDDEN),
    "ffn_gate": (INNER, HIDDEN),
    "ffn_up": (INNER, HIDDEN),
    "ffn_down": (HIDDEN, INNER),
}
TEMPLATE = "{% for m in messages %}{{ m.content }}{% endfor %}"


@pytest.fixture
def written(tmp_path: Path) -> tuple[Path, dict[str, Any]]:
    """A one-layer Llama as a GGUF file, and the tensors in it."""
    path = tmp_path / "source" / "model.gguf"
    path.parent.mkdir()
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(1)
    writer.add_context_length(64)
    writer.add_embedding_length(HIDDEN)
    writer.add_feed_forward_length(INNER)
    writer.add_head_count(2)
    writer.add_head_count_kv(1)
    writer.add_rope_freq_base(10_000.0)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(len(VOCABULARY))
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(VOCABULARY)
    writer.add_token_types([3, 3, 3] + [1] * (len(VOCABULARY) - 3))
    writer.add_token_merges(["t h", "h e"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_chat_template(TEMPLATE)
    rng = np.random.default_rng(0)
    tensors = {"token_embd.weight": rng.standard_normal((len(VOCABULARY), HIDDEN)).astype(np.float16)}
    for name, shape in MATRICES.items():
        tensors[f"blk.0.{name}.weight"] = rng.standard_normal(shape).astype(np.float16)
    for name in ("output_norm", "blk.0.attn_norm", "blk.0.ffn_norm"):
        tensors[f"{name}.weight"] = np.ones(HIDDEN, np.float32)
    for name, tensor in tensors.items():
        writer.add_tensor(name, tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path, tensors


def test_a_gguf_file_becomes_a_folder_that_loads_with_weights_tokenizer_and_template(
    written: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    from safetensors.numpy import load_file

    path, tensors = written
    folder = tmp_path / "converted"
    folder.mkdir()
    quieten()
    convert_gguf(path, folder)

    saved = load_file(folder / "model.safetensors")
    assert {tensor.dtype for tensor in saved.values()} == {np.dtype(np.float16)}
    assert np.array_equal(saved["model.layers.0.mlp.down_proj.weight"], tensors["blk.0.ffn_down.weight"])
    assert np.array_equal(saved["model.embed_tokens.weight"], tensors["token_embd.weight"])
    assert (folder / "chat_template.jinja").read_text() == TEMPLATE

    loaded = load_model(Model(id=str(folder)), Fp16(), "sdpa", "cpu")
    assert loaded.max_context == 64
    assert loaded.eos_ids == (2,)
    assert loaded.vocabulary.tokenizer is not None
    assert loaded.vocabulary.tokenizer.encode("the") == [VOCABULARY.index("th"), VOCABULARY.index("e")]
    assert not {0, 1, 2} & set(loaded.vocabulary.ordinary_ids)
