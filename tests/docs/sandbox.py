"""A folder in which the commands of the documentation work as written, and the command line in this process.

It has copies of the configs and of some recorded runs. One experiment, the shipped small one cut down to
seconds, is really measured; every other command that measures takes the whole path with the jobs of that run
in place of its own (and those of a recorded capacity search), for a page may ask for hours on a GPU.
"""

from __future__ import annotations

import json
import multiprocessing
import re
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from typer.testing import CliRunner

from bench import store
from bench.cli import app
from bench.errors import BenchError
from bench.run import experiment
from bench.run.plan import Job
from tests.docs.pages import ROOT

SHORT = {
    "input_tokens": '{ kind = "constant", tokens = 24 }',
    "output_tokens": '{ kind = "constant", tokens = 6 }',
    "tokens": "256\nwindow = 128\nstride = 64",
    "prompts = 96": "prompts = 5\nnew_tokens = 6",
    "warmup_s": "0.2\nmax_warmup_s = 0.3",
    "window_s": "1.5",
    "offline_s": "0.5",
    "repeats": "1",
}
"""What is written in place of the small experiment's lengths and times."""
RECORDED = {
    "cpu-smollm2": "20261121T203335Z-234b742",
    "capacity-cpu": "20261122T035404Z-5cd117c",
    "policies-cpu": "20261122T003825Z-3938370",
}
"""The committed runs that pages speak of."""
INTERRUPTED = "20000101T000000Z-interrupted"
"""The name of what was measured, without its last repeat."""
PRELOADED = ["torch", "transformers", "bitsandbytes", "bench.run.job"]
"""What every job's process would import anew."""
MEASURING = {"run", "capacity", "ab"}
HISTORY = {"gate", "configs/mine.toml"}
"""What is not the same the second time: the history grows with every run of this config and every gate."""


class Done(msgspec.Struct, frozen=True):
    """What a command printed, and its exit code."""

    output: str
    exit_code: int


class Sandbox:
    """The folder `path`, what is meant by a page's placeholders there, and what the commands printed."""

    def __init__(self, path: Path) -> None:
        """Copy what commands need."""
        self.path = path
        self._known: dict[tuple[str, ...], Done] = {}
        self._measured_at_s = 0.0
        self.donor: Path | None = None
        self.jobs_of: Path | None = None
        shutil.copytree(ROOT / "configs", path / "configs")
        runs = Path("results") / "runs"
        for name, stamp in RECORDED.items():
            shutil.copytree(ROOT / runs / name / stamp, path / runs / name / stamp)
        self.recorded = path / runs / "cpu-smollm2" / RECORDED["cpu-smollm2"]
        self.searched = path / runs / "capacity-cpu" / RECORDED["capacity-cpu"]
        for csv in self.recorded.glob("*_inference_metrics.csv"):
            shutil.copy(csv, path / "results")
        self._write_small_files()

    def _write_small_files(self) -> None:
        path = self.path
        shutil.copy(self.recorded / "baseline_inference_metrics.csv", path / "a.csv")
        shutil.copy(self.recorded / "optimized_inference_metrics.csv", path / "b.csv")
        shutil.copy(path / "configs" / "cpu-tiny.toml", path / "configs" / "mine.toml")
        (path / "path" / "to").mkdir(parents=True)
        (path / "path" / "to" / "model").symlink_to(ROOT / "bench" / "data" / "tiny")
        rows = [f"{i * 0.7:.1f},{20 + i % 7},{5 + i % 3}" for i in range(40)]
        (path / "trace.csv").write_text("\n".join(["timestamp,input_tokens,output_tokens", *rows]) + "\n")
        for config in (path / "configs").glob("*.toml"):
            changes = SHORT if config.stem == "cpu-tiny" else {"repeats": "2"}
            text = _with(config.read_text(encoding="utf-8"), changes)
            assert changes is not SHORT or all(value in text for value in SHORT.values()), text
            config.write_text(text, encoding="utf-8")

    def newest(self, name: str) -> Path:
        """Return the newest run folder of an experiment file."""
        return sorted((self.path / "results" / "runs" / name).iterdir())[-1]

    def bench(self, words: Sequence[str]) -> Done:
        """Run a command of bench as a page writes it; the same one again is not run again."""
        asked = tuple(words)
        if asked not in self._known or HISTORY & set(words):
            self._wait_for_another_second(asked)
            self._known[asked] = self._run(asked)
        return self._known[asked]

    def _run(self, words: Sequence[str]) -> Done:
        result = CliRunner().invoke(app, list(words), env={"COLUMNS": "120"})
        if isinstance(result.exception, BenchError):
            return Done(f"{result.output}bench: {result.exception}", result.exception.exit_code)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return Done(result.output, result.exit_code)

    def _wait_for_another_second(self, words: Sequence[str]) -> None:
        """A run folder is named after its second: two of one experiment must not fall into the same."""
        if words[0] in MEASURING:
            time.sleep(max(0.0, self._measured_at_s + 1.1 - time.monotonic()))
            self._measured_at_s = time.monotonic()

    def give(self, job: Job, watch: Any) -> BenchError | None:
        """Put a recorded job in the place of one that would be measured."""
        source = self.searched / "baseline.capacity" if job.kind == "capacity" else self._like(job)
        shutil.copytree(source, job.folder)
        asked = store.read_experiment(Path(job.experiment_folder))
        meta = json.loads((source / store.RUN_FILE).read_text(encoding="utf-8"))
        meta |= {"system": job.system, "repeat": job.repeat}
        meta |= {"config": asked.config, "written": asked.written}
        store.write_json(job.folder / store.RUN_FILE, meta)
        return None

    def _like(self, job: Job) -> Path:
        assert self.jobs_of is not None
        assert self.donor is not None
        donor = self.donor if Path(job.experiment_folder).name == INTERRUPTED else self.jobs_of
        systems = list(store.read_experiment(Path(job.experiment_folder)).config["systems"])
        side = "baseline" if job.system == systems[0] else "optimized"
        return donor / f"{side}.{'offline' if job.kind == 'offline' else 1}"


@pytest.fixture(scope="module")  # other modules have their own folder, and measure
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    """Return the folder, with the small experiment measured in it; it is the working directory meanwhile."""
    made = Sandbox(tmp_path_factory.mktemp("documentation"))
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(made.path)
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(PRELOADED)
        with pytest.MonkeyPatch.context() as measuring:
            measuring.setattr(multiprocessing, "get_context", lambda method: context)
            done = made.bench(["run", "configs/cpu-tiny.toml"])
        # On a busy machine the client of so short a run may be late, which is said; others need a good one.
        assert done.exit_code == 0 or (done.exit_code == 3 and "INVALID" in done.output), done.output
        made.donor = made.newest("cpu-tiny")
        made.jobs_of = made.donor if done.exit_code == 0 else made.recorded
        patched.setattr(experiment, "_execute", made.give)
        yield made


def _with(text: str, changes: Mapping[str, str]) -> str:
    """Return an experiment file with other values, of the keys that it has."""
    for key, value in changes.items():
        name, _, old = key.partition(" = ")
        written = rf"^{name} = {old or '[^#]*?'}(?= *(#|$))"
        text = re.sub(written, value if old else f"{name} = {value}", text, flags=re.MULTILINE)
    return text


def copied(folder: Path, name: str, changes: Mapping[str, str]) -> Path:
    """Copy a run folder beside itself under another name, with other texts in its JSON files."""
    target = folder.with_name(name)
    shutil.copytree(folder, target)
    for path in target.rglob("*.json"):
        text = path.read_text(encoding="utf-8")
        for old, new in changes.items():
            text = text.replace(old, new)
        path.write_text(text, encoding="utf-8")
    return target
