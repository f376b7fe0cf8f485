"""`python -m tests.perf [NAME…]`: run the benchmarks, all or those named, one after the other."""

from __future__ import annotations

import sys
from importlib import import_module

NAMES = ("harness_overhead", "queueing", "dispatch", "simulator", "generation", "energy_accuracy")


def main() -> None:
    """Run what the command line names; SystemExit 2 for a name that does not exist."""
    asked = sys.argv[1:] or list(NAMES)
    for name in asked:
        if name not in NAMES:
            sys.exit(f"no benchmark {name!r}; there are {', '.join(NAMES)}")
    sys.argv[1:] = []  # a benchmark's own options are given when it is run by itself
    for name in asked:
        print(f"\n{name}")
        import_module(f"tests.perf.{name}").main()


if __name__ == "__main__":
    main()
