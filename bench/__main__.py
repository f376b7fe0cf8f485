"""`python -m bench`: the command line."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line; an interrupt ends it in one line, however early it comes."""
    try:
        from bench import cli

        cli.main()
    except KeyboardInterrupt:
        sys.stderr.write("bench: interrupted\n")
        sys.exit(130)


if __name__ == "__main__":
    main()
