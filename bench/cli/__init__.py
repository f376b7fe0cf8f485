"""The command line: arguments to one call, one printed result, one exit code.

Exit codes: 0 done; 1 the verdict says no (`compare --fail-on`), the gate or the self-test; 2 bad input, or
something is not available here; 3 a job failed, or a run is unfinished or invalid (the client did not send as
asked, or the device was not itself), finished results are kept; 130 interrupted, likewise. Results go to
stdout, progress and messages to stderr. Everything heavy is imported by the command that needs it.
"""

from __future__ import annotations

import sys

import typer

from bench.cli.ab import ab
from bench.cli.answer import expected
from bench.cli.choose import select
from bench.cli.gate import gate
from bench.cli.judge import check, compare, summarize
from bench.cli.machine import env, selftest
from bench.cli.measure import capacity, run
from bench.cli.messages import messages
from bench.cli.notebook import notebook
from bench.cli.page import report
from bench.cli.plot import plot
from bench.cli.quality import quality
from bench.cli.simulation import fit, simulate
from bench.errors import BenchError

app = typer.Typer(
    name="bench",
    help="Is this LLM inference optimization worth adopting, on my GPU, for my traffic?",
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    epilog="Exit codes: 0 done; 1 the verdict says no; 2 bad input or not available; "
    "3 a job failed, or a run is unfinished or invalid, finished results are kept; "
    "130 interrupted, likewise.",
)
for command in (
    run,
    capacity,
    check,
    summarize,
    compare,
    report,
    plot,
    notebook,
    quality,
    ab,
    select,
    gate,
    fit,
    simulate,
    selftest,
    env,
):
    app.command()(command)


def main() -> None:
    """Run the command line; every expected failure is one line and its exit code."""
    sys.stderr = messages()
    try:
        app(standalone_mode=True)
    except Exception as problem:
        error = expected(problem)
        if not isinstance(error, BenchError):
            raise
        print(f"bench: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
