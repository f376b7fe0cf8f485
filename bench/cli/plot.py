"""The command that draws figures into files, for slides and READMEs."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from bench.analysis.evaluation import Evaluation
    from bench.analysis.figure import Figure

COMMIT_LETTERS = 7
MOST_PX = 8000
"""The width of a PNG at the most; no slide and no screen is wider."""


def plot(
    folders: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Run folders made alike.")],
    kind: Annotated[
        list[str] | None, typer.Option(help="What to draw (repeatable); without it the kinds are listed.")
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="Draw every kind that this run has.")] = False,
    image: Annotated[
        Literal["png", "svg"] | None, typer.Option("--format", help="Default: by --out's ending, else png.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="A file, or the folder for KIND.png; default: this folder.")
    ] = None,
    theme: Annotated[Literal["light", "dark"], typer.Option(help="The ground to stand on.")] = "light",
    width: Annotated[int, typer.Option(min=480, max=4000, help="Width of the picture.")] = 800,
    scale: Annotated[
        float, typer.Option(min=0.5, max=8, help="Pixels of a PNG to one of the width; 8000 across at most.")
    ] = 2.0,
    allow_different: Annotated[
        list[str] | None, typer.Option(help="Put together although this differs, e.g. load (repeatable).")
    ] = None,
) -> None:
    """Draw figures of one or more runs as PNG or SVG, as the result page shows them."""
    from bench.errors import ConfigError
    from bench.run.evaluation import read_evaluation

    wanted = known_kinds(kind or [])
    if every and wanted:
        raise ConfigError("give either --kind or --all")
    if width * scale > MOST_PX:
        raise ConfigError(f"--width {width} --scale {scale:g} is more than {MOST_PX} pixels across")
    evaluation = read_evaluation(folders, allow_different=allow_different or [])
    if not wanted and not every:
        _list_kinds(evaluation)
        return
    figures = _figures(evaluation, wanted)
    drawn = [figure for figure in figures if not figure.missing]
    files = files_of([figure.kind for figure in drawn], out, image, one=len(wanted) == 1)
    for figure, file in zip(drawn, files, strict=True):
        write_picture(evaluation, figure, file, theme=theme, width=width, scale=scale)
        print(file)
    for figure in figures:
        if figure.missing:
            print(f"bench: {figure.kind}: nothing to draw: {figure.missing}", file=sys.stderr)
    if wanted and len(drawn) < len(figures):
        raise typer.Exit(2)


def known_kinds(kinds: Sequence[str]) -> list[str]:
    """Return the kinds, each once; ConfigError, with the nearest name, where one is none."""
    import difflib

    from bench.errors import ConfigError
    from bench.report.charts import CHARTS

    for kind in kinds:
        if kind not in CHARTS:
            near = difflib.get_close_matches(kind, CHARTS, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise ConfigError(f"--kind {kind}: there is no such figure, only {', '.join(CHARTS)}{hint}")
    return list(dict.fromkeys(kinds))


def files_of(
    kinds: Sequence[str], out: Path | None, image: Literal["png", "svg"] | None, *, one: bool
) -> list[Path]:
    """Return the file of each kind; ConfigError where `out` is a file of another kind, or of several figures.

    `out` is a file where it has an ending and is no folder.
    """
    from bench.errors import ConfigError
    from bench.report.charts.files import FORMATS

    ending = "" if out is None or out.is_dir() else out.suffix.lower().removeprefix(".")
    if out is not None and ending:
        if ending not in FORMATS:
            raise ConfigError(f"--out {out} is no {' and no '.join(FORMATS)}, and no folder that exists")
        if not one:
            raise ConfigError(f"--out {out} is one file; name a folder for several figures")
        if image not in (None, ending):
            raise ConfigError(f"--out {out} is no {image}; leave --format away, or name FILE.{image}")
        return [out for _ in kinds]
    return [(out or Path()) / f"{kind}.{image or 'png'}" for kind in kinds]


def write_picture(
    evaluation: Evaluation,
    figure: Figure,
    file: Path,
    *,
    theme: Literal["light", "dark"] = "light",
    width: int = 800,
    scale: float = 2.0,
) -> None:
    """Draw one figure into a PNG or an SVG, by the file's ending; ConfigError where it cannot be written."""
    from bench.errors import ConfigError
    from bench.report.charts import CHARTS
    from bench.report.charts.files import png_of, svg_of

    about = origin_in_words(evaluation)
    svg = svg_of(figure, CHARTS[figure.kind](figure), theme=theme, width_px=width, about=about)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        if file.suffix.lower() == ".svg":
            file.write_text(svg, encoding="utf-8")
        else:
            file.write_bytes(png_of(svg, scale))
    except OSError as error:
        raise ConfigError(f"{file}: cannot be written ({error.strerror}); name another with --out") from error


def origin_in_words(evaluation: Evaluation) -> str:
    """Return what stands at a picture's foot: who is INVALID, the experiment, its runs, the code's commit."""
    runs = ", ".join(origin.folder for origin in evaluation.origins)
    commits = [str(commit) for one in evaluation.origins if (commit := one.provenance.get("commit"))]
    told = ", ".join(dict.fromkeys(commit[:COMMIT_LETTERS] for commit in commits))
    warning = f"INVALID: {', '.join(evaluation.invalid)}; " if evaluation.invalid else ""
    return f"{warning}{evaluation.title}, {runs}" + (f"; bench at commit {told}" if told else "; bench")


def _figures(evaluation: Evaluation, kinds: Sequence[str]) -> list[Figure]:
    from bench.analysis.figures import FIGURES

    return [make(evaluation) for kind, make in FIGURES.items() if not kinds or kind in kinds]


def _list_kinds(evaluation: Evaluation) -> None:
    """Print every kind with its title, or why there is nothing to draw."""
    figures = _figures(evaluation, [])
    room = max(len(figure.kind) for figure in figures)
    for figure in figures:
        told = f"nothing to draw: {figure.missing}" if figure.missing else figure.title
        print(f"{figure.kind:{room}}  {told}")
    print("bench: draw with --kind KIND, or --all", file=sys.stderr)
