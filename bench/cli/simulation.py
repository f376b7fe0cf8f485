"""Commands that fit a law to a measured system, and predict by it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bench.cli.show import new_console


def fit(
    path: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder, or FOLDER/SYSTEM.")],
) -> None:
    """Fit how long a measured system's prefill and decode take: the law that `simulate` serves by."""
    from bench.report.simulation import render_fit
    from bench.run.simulate import fit as fit_laws

    new_console().print(render_fit(fit_laws(path)))


def simulate(
    path: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder, or FOLDER/SYSTEM.")],
    rate: Annotated[float | None, typer.Option(min=1e-6, max=1e9, help="Requests/s.")] = None,
    batching: Annotated[
        str | None, typer.Option(help="Another policy, as in an experiment file: '{ kind = … }'.")
    ] = None,
    requests: Annotated[int | None, typer.Option(min=1, help="How many are scored per draw.")] = None,
    seconds: Annotated[float | None, typer.Option(min=1e-3, help="Or for how long.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Of the drawn requests.")] = None,
) -> None:
    """Predict a measured system at another rate or under another policy, by its own loop on virtual time.

    Without options the recorded requests are served again: how far to trust the law.
    """
    from bench.report.simulation import render_prediction
    from bench.run.simulate import predict

    predictions = predict(
        path, rate_rps=rate, batching=batching, requests=requests, seconds=seconds, seed=seed
    )
    new_console().print(render_prediction(predictions))
