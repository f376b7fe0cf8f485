"""What holds for every test."""

from __future__ import annotations

import os

from hypothesis import settings

# The suite draws the same examples each time, so that a red build is one that the change made red.
# `HYPOTHESIS_PROFILE=explore` draws others, and more: for looking around before a change is offered.
settings.register_profile("suite", derandomize=True)
settings.register_profile("explore", max_examples=2000, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "suite"))
