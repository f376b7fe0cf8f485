"""The model hub: whether it can be reached, and why a model on it could not be had, in one line.

transformers wraps what the hub's client raised in an OSError of several lines; the specific exception
stands in its chain of causes and tells a gated repository from a missing one and from no network. And
without a network the client retries each file for half a minute, so the question is asked once, before.
"""

from __future__ import annotations

import ssl
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from bench.errors import NotAvailable

_OFFLINE = (
    "is not in the local cache and HF_HUB_OFFLINE forbids asking the hub; unset it or fetch the model first"
)
_UNREACHABLE = (
    "is not in the local cache and the hub cannot be reached; connect, name a local folder, "
    'or use weights = "random" with a shipped architecture'
)
# Most specific first: a gated repository is also one that was not found.
_CASES = {
    "GatedRepoError": "is gated; accept its terms at {page} and run `hf auth login`, "
    "or choose an ungated model",
    "RevisionNotFoundError": "has no such revision; see {page} for its branches and tags",
    "RepositoryNotFoundError": "is no local folder and no model on the hub; check the id, "
    "or run `hf auth login` if it is private",
    "OfflineModeIsEnabled": _OFFLINE,
    "LocalEntryNotFoundError": _UNREACHABLE,
    "HfHubHTTPError": _UNREACHABLE,
}
_ANSWER_WITHIN_S = 10.0
_NETWORK_CLIENTS = {"httpx", "httpx2", "httpcore", "httpcore2", "requests"}


def local_only(hub_id: str, revision: str | None) -> bool:
    """Whether `hub_id` must be read from the local cache because the hub does not answer.

    Raises NotAvailable where it is not in the cache either.
    """
    from huggingface_hub import constants

    if not constants.HF_HUB_OFFLINE and _answers(constants.ENDPOINT):
        return False
    reason = _OFFLINE if constants.HF_HUB_OFFLINE else _UNREACHABLE
    if commit_of(hub_id, revision) is None:
        raise NotAvailable(f"{hub_id}: {reason}")
    return True


def commit_of(hub_id: str, revision: str | None) -> str | None:
    """Return the commit of the cached snapshot that `hub_id` was read from, None where there is none."""
    from huggingface_hub import try_to_load_from_cache

    cached = try_to_load_from_cache(hub_id, "config.json", revision=revision)
    return Path(cached).parent.name if isinstance(cached, str) else None


def _answers(endpoint: str) -> bool:
    """Whether anything answers at `endpoint`; the standard library's proxies are the hub client's too."""
    request = urllib.request.Request(endpoint, method="HEAD")
    try:
        with urllib.request.urlopen(request, timeout=_ANSWER_WITHIN_S):
            return True
    except urllib.error.HTTPError:
        return True
    except urllib.error.URLError as error:
        # A certificate that the standard library does not trust is an answer: the client may know it.
        return isinstance(error.reason, ssl.SSLError)
    except OSError:
        return False


def explain(error: BaseException, name: str) -> str:
    """Return one line for what was raised while loading `name`."""
    from huggingface_hub import constants, errors

    causes = list(_causes(error))
    for kind, text in _CASES.items():
        known = getattr(errors, kind, None)
        if known is not None and any(isinstance(cause, known) for cause in causes):
            offline = text is _UNREACHABLE and constants.HF_HUB_OFFLINE
            chosen = _OFFLINE if offline else text.format(page=f"https://huggingface.co/{name}")
            return f"{name}: {chosen}"
    if any(type(cause).__module__.split(".")[0] in _NETWORK_CLIENTS for cause in causes):
        return f"{name}: {_UNREACHABLE}"
    first_line = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return f"{name}: cannot be loaded: {first_line}"


def _causes(error: BaseException) -> Iterator[BaseException]:
    current: BaseException | None = error
    while current is not None:
        yield current
        current = current.__cause__ or current.__context__
