"""The page of the run folder: its files, the columns of its tables, the keys of its JSON."""

from __future__ import annotations

import inspect
from typing import Any

from bench import records, store
from bench.analysis.csvfile import COLUMNS
from bench.run.results import Sidecar
from tests.reference.words import MADE, doc_of, keys_of, table


def page() -> str:
    """Return the page."""
    lines = [
        "# The run folder",
        "",
        MADE,
        "",
        inspect.cleandoc(store.__doc__ or "").partition("\n\n")[2],
        "",
        f"The schema is {store.SCHEMA}; a newer one is refused, an older one read. What each added:",
        "[schema history](../../results/README.md#schema-history).",
    ]
    parquet = {
        "requests.parquet": (store.requests_table([]).schema, records.Completion),
        "telemetry.parquet": (store.telemetry_table([]).schema, records.Sample),
        "quality.parquet": (store.quality_schema(), store.quality_schema),
        "outputs.parquet": (store.outputs_schema(), store.outputs_schema),
    }
    for name, (schema, described) in parquet.items():
        lines += ["", f"## `{name}`", "", _described(described), "", *_columns(schema)]
    for title, kind in {
        "experiment.json": store.ExperimentMeta,
        "experiment.json: rounds": store.Rounds,
        "run.json": records.RunMeta,
        "run.json: window": records.Interval,
        "run.json: probes": records.Probe,
    }.items():
        lines += ["", f"## `{title}`", "", doc_of(kind), *keys_of(kind)]
    lines += ["", "## The CSVs", "", *_csvs(), "", "## `….meta.json`, beside each CSV", "", doc_of(Sidecar)]
    lines += [*keys_of(Sidecar), "", "A figure in `metrics.values`:", "", doc_of(records.Value)]
    return "\n".join([*lines, *keys_of(records.Value)]) + "\n"


def _described(thing: Any) -> str:
    return doc_of(thing).removeprefix("Return the columns of ")


def _columns(schema: Any) -> list[str]:
    return table(("column", "type"), ([f"`{field.name}`", str(field.type)] for field in schema))


def _csvs() -> list[str]:
    headers = ", ".join(f"`metric,{column},notes`" for column in COLUMNS)
    return [
        f"Columns {headers}; rows are [the metrics](metrics.md). A number is plain, an empty cell is",
        "*not measured*. A note begins with the kind of its figure: measured, derived, missing, ….",
    ]
