"""`python -m bench`: the command line."""

from __future__ import annotations


def main() -> None:
    """Run the command line."""
    from bench import cli

    cli.main()


if __name__ == "__main__":
    main()
