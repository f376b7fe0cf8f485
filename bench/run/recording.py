"""What a job has found so far; can be written at any moment, whatever ended the job."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from bench import provenance, store
from bench.clock import WallClock
from bench.errors import RunFailed
from bench.meters.sample_log import SampleLog
from bench.meters.sampling import Sampler
from bench.protocols import Meter
from bench.records import Completion, Run, RunMeta, RunStatus
from bench.run.assemble import Parts, assemble_written
from bench.run.drive import Drive
from bench.run.plan import Job

if TYPE_CHECKING:
    import pyarrow as pa

_NOTHING_SAMPLED = SampleLog(samples=(), missing={}, facts={}, simulated=False, max_gap_s=0.0, failures=())


class Recording:
    """Everything that a job's folder will hold, as far as it is known."""

    def __init__(self, job: Job) -> None:
        """Read the experiment that `job` belongs to; nothing is measured yet."""
        self.job = job
        self.experiment = store.read_experiment(Path(job.experiment_folder))
        self.parts: Parts = assemble_written(self.experiment.written, self.experiment.config_file)
        self.provenance = provenance.collect()
        self.clock = WallClock()
        self.device: Literal["cuda", "cpu"] | None = None
        self.meters: dict[str, Meter] = {}
        self.sampler: Sampler | None = None
        self.log: SampleLog | None = None
        self.drive = Drive(self.clock)
        self.treatment: dict[str, Any] = {}
        self.facts: dict[str, Any] = {}
        self.missing: dict[str, str] = {}
        self.doubts: list[str] = []
        self.quality: pa.Table | None = None
        self.outputs: pa.Table | None = None

    def stop_meters(self) -> None:
        """End sampling; raise RunFailed when a GPU was lost on the way, which makes the run invalid."""
        if self.sampler is None or self.log is not None:
            return
        self.log = self.sampler.stop()
        for meter in self.meters.values():
            meter.close()
        for failure in self.log.failures:
            if failure.kind == "lost":
                raise RunFailed(f"the {failure.meter} was lost while it was measured: {failure.error}")

    def write(self, status: RunStatus, error: str | None) -> None:
        """Write the run folder."""
        log = self.log or _NOTHING_SAMPLED
        store.write_run(
            self.job.folder,
            self._meta(status, error, log),
            self.drive.completions(),
            log.samples,
            self.quality,
            self.outputs,
        )

    def _meta(self, status: RunStatus, error: str | None, log: SampleLog) -> RunMeta:
        return RunMeta(
            schema=store.SCHEMA,
            status=status,
            source="simulated" if log.simulated else "measured",
            kind=self.job.kind,
            system=self.job.system,
            repeat=self.job.repeat,
            config=self.experiment.config,
            written=self.experiment.written,
            provenance=self.provenance,
            device=self.device,
            offered_rps=self.job.rate_rps,
            window=None if self.drive.probes else self.drive.window,
            probes=self.drive.probes,
            treatment=self.treatment,
            facts=self._facts(log),
            missing=log.missing | self.missing,
            doubts=[*self.doubts, *self.drive.doubts, *log.doubts],
            error=error,
        )

    def _facts(self, log: SampleLog) -> dict[str, Any]:
        own: dict[str, Any] = {"meters": log.facts, "sampler": log.sampler}
        idle = {name: msgspec.to_builtins(span) for name, span in self.drive.idle.items()}
        return own | ({"idle": idle} if idle else {}) | self.drive.facts | self.facts

    def view(self, requests: Sequence[Completion]) -> Run:
        """Return these requests as a run, for a look at them while the job goes on; without telemetry."""
        return Run(
            folder=self.job.folder.name,
            meta=self._meta("complete", None, _NOTHING_SAMPLED),
            requests=store.requests_table(requests),
            telemetry=store.telemetry_table(()),
        )


def first_line(error: BaseException) -> str:
    """Return the first line of what an exception says."""
    return (str(error).strip().splitlines() or [""])[0]
