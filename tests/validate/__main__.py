"""`python -m tests.validate [NAME…]`: run the validations, all or those named; exit 1 if a claim fails."""

from __future__ import annotations

import json
import sys
from importlib import import_module

from tests.validate.recording import LATEST

NAMES = ("queueing", "capacity", "energy", "inference", "few", "adaptive", "regression", "yardsticks")


def main() -> None:
    """Run what the command line names, then say which recorded claims do not hold."""
    asked = sys.argv[1:] or list(NAMES)
    for name in asked:
        if name not in NAMES:
            sys.exit(f"no validation {name!r}; there are {', '.join(NAMES)}")
    sys.argv[1:] = []
    for name in asked:
        print(f"\n{name}")
        import_module(f"tests.validate.{name}").main()
    failed = [
        name for name, entry in json.loads(LATEST.read_text(encoding="utf-8")).items() if not entry["ok"]
    ]
    if failed:
        print(f"\nfailed: {', '.join(failed)}", file=sys.stderr)
        sys.exit(1)
    print("\nall claims hold")


if __name__ == "__main__":
    main()
