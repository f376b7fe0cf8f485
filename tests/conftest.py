"""What holds for every test."""

from __future__ import annotations

import gc
import os

from hypothesis import settings

# The suite draws the same examples each time, so that a red build is one that the change made red.
# `HYPOTHESIS_PROFILE=explore` draws others, and more: for looking around before a change is offered.
# An example may take as long as it takes on a busy machine; a test has its timeout.
settings.register_profile("suite", derandomize=True, deadline=None)
settings.register_profile("explore", max_examples=2000, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "suite"))

# A test that runs make does so as a person would, not as a part of the make that runs the tests.
for name in ("ARGS", "MAKEFLAGS", "MAKELEVEL", "MAKEOVERRIDES", "MFLAGS"):
    os.environ.pop(name, None)


def pytest_collection_finish() -> None:
    """Leave what the modules imported out of every later collection: `gc.collect()` took most of a second."""
    gc.collect()
    gc.freeze()
