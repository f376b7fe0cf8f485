from __future__ import annotations

import importlib.util
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from bench.config import Model
from bench.errors import NotAvailable
from bench.model.load import LoadedModel, load_model, resolve_device
from bench.model.locate import DATA
from bench.model.precision import Fp16, Fp32, Int8, Nf4

NOBODY_LISTENS = "http://127.0.0.1:9"


def test_the_tiny_model_loads_with_its_tokenizer_and_says_what_it_is(tiny: LoadedModel) -> None:
    assert tiny.max_context == 2048
    assert tiny.device == "cpu"
    assert tiny.load_s > 0
    assert tiny.facts["model_type"] == "llama"
    assert tiny.facts["predicted_weight_bytes"] == 4 * tiny.facts["parameters"]
    assert tiny.vocabulary.tokenizer is not None
    text = "And God said, Let there be light: and there was light."
    assert tiny.vocabulary.tokenizer.decode(tiny.vocabulary.tokenizer.encode(text)) == text


def test_ordinary_ids_leave_out_special_tokens(tiny: LoadedModel) -> None:
    ordinary = set(tiny.vocabulary.ordinary_ids)
    assert tiny.eos_ids
    assert not ordinary & set(tiny.eos_ids)
    assert 1900 < len(ordinary) < 2048
    assert max(ordinary) < 2048


def test_random_weights_are_the_same_every_time_and_in_every_precision() -> None:
    import torch

    model = Model(id="tiny", weights="random")
    first, second = (load_model(model, Fp16(), "sdpa", "cpu").model for _ in range(2))
    for a, b in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(a, b)
    int8 = load_model(model, Int8(), "sdpa", "cpu").model
    layer = int8.model.layers[0].mlp.up_proj
    restored = layer.weight.data.float() * layer.weight.SCB[:, None] / 127
    plain = first.model.layers[0].mlp.up_proj.weight.float()
    assert float((restored - plain).abs().max()) <= float(plain.abs().max()) / 127


def test_random_weights_share_what_the_architecture_shares_and_stay_finite() -> None:
    import torch

    loaded = load_model(Model(id="smollm2-135m", weights="random"), Fp16(), "sdpa", "cpu")
    assert loaded.model.lm_head.weight is loaded.model.model.embed_tokens.weight
    with torch.inference_mode():
        logits = loaded.model(torch.arange(24)[None] + 100).logits.float()
    assert torch.isfinite(logits).all()
    assert 0.1 < float(logits.std()) < 10


def test_a_pretrained_and_a_random_int8_model_quantize_the_same_layers() -> None:
    def layers(weights: Any) -> set[str]:
        model = load_model(Model(id="tiny", weights=weights), Int8(), "sdpa", "cpu").model
        return {name for name, module in model.named_modules() if type(module).__name__ == "Linear8bitLt"}

    assert layers("pretrained") == layers("random") != set()


def copy_of_tiny(folder: Path) -> Path:
    return Path(shutil.copytree(DATA / "tiny", folder / "model"))


def test_a_checkpoint_with_missing_weights_is_refused_rather_than_filled_up(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = copy_of_tiny(tmp_path)
    weights = load_file(folder / "model.safetensors")
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(NotAvailable, match=r"1 weights are missing .*layers\.1\.mlp\.up_proj"):
        load_model(Model(id=str(folder)), Fp16(), "sdpa", "cpu")


def test_a_damaged_weights_file_is_one_line(tmp_path: Path) -> None:
    folder = copy_of_tiny(tmp_path)
    (folder / "model.safetensors").write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(NotAvailable, match="weights cannot be read"):
        load_model(Model(id=str(folder)), Fp16(), "sdpa", "cpu")


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"model_type": "vit"}, "is a vit model and no causal language model"),
        ({"model_type": "t5"}, "no causal language model"),
        ({"model_type": "no-such-type"}, r"cannot read its config\.json"),
    ],
)
def test_what_is_no_causal_language_model_is_refused(
    tmp_path: Path, config: dict[str, str], says: str
) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(NotAvailable, match=says) as caught:
        load_model(Model(id=str(tmp_path), weights="random"), Fp16(), "sdpa", "cpu")
    assert "\n" not in str(caught.value)


def test_a_folder_without_tokenizer_loads_without_one(tmp_path: Path) -> None:
    folder = copy_of_tiny(tmp_path)
    for file in folder.glob("tokenizer*"):
        file.unlink()
    assert load_model(Model(id=str(folder)), Fp16(), "sdpa", "cpu").vocabulary.tokenizer is None


def test_cuda_without_a_gpu_is_an_error_and_auto_takes_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert resolve_device("auto") == resolve_device("cpu") == "cpu"
    with pytest.raises(NotAvailable, match='or set device = "cpu"'):
        resolve_device("cuda")


def test_a_missing_quantization_package_names_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *a: None if name == "bitsandbytes" else find(name, *a)
    )
    with pytest.raises(NotAvailable, match="precision nf4 needs bitsandbytes; run: pip install"):
        load_model(Model(id="tiny"), Nf4(), "sdpa", "cpu")


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty hub cache, and a hub that does not answer."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", NOBODY_LISTENS)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    return tmp_path


def test_a_hub_that_does_not_answer_is_one_line_at_once(hub: Path) -> None:
    with pytest.raises(NotAvailable, match="someone/model: is not in the local cache and the hub cannot"):
        load_model(Model(id="someone/model"), Fp16(), "sdpa", "cpu")


def test_offline_mode_is_named_as_the_reason(hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(NotAvailable, match="HF_HUB_OFFLINE forbids"):
        load_model(Model(id="someone/model"), Fp16(), "sdpa", "cpu")


def test_a_model_in_the_hubs_cache_loads_while_the_hub_does_not_answer(hub: Path) -> None:
    commit = "0" * 39 + "1"
    repository = hub / "models--someone--tiny"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(commit)
    shutil.copytree(DATA / "tiny", repository / "snapshots" / commit)
    loaded = load_model(Model(id="someone/tiny"), Fp32(), "sdpa", "cpu")
    assert loaded.facts["commit"] == commit
    assert loaded.facts["source"] == "hub"
    assert loaded.vocabulary.tokenizer is not None
