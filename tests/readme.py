"""The README's result table is made from a committed run by `python -m tests.readme`, never by hand.

It replaces what stands between the two markers; the first names the run. A test checks that nothing
else stands there.
"""

from __future__ import annotations

import re
from pathlib import Path

from bench import store
from bench.report.tables import to_markdown
from bench.run.judging import judge_experiment

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
SECTION = re.compile(r"<!-- results: (\S+) -->\n.*?<!-- end of results -->", re.DOTALL)


def section(run: str) -> str:
    """Return the section for the run folder `run`: verdict, table, machine, versions, command."""
    meta = store.read_experiment(ROOT / run)
    (judged,) = judge_experiment(ROOT / run)
    table = to_markdown(judged.comparison, judged.verdict).partition("\n\n| per day |")[0]
    report = table.partition("\n\n| gate |")[0].strip()
    facts = meta.provenance
    packages = facts["packages"]
    versions = ", ".join(f"{name} {packages[name]}" for name in ("torch", "transformers", "bitsandbytes"))
    wanted = meta.config["model"]["cpu_threads"]
    threads = "torch's own number of threads" if wanted is None else f"{wanted} torch thread(s)"
    command = " ".join(meta.argv).replace("bench run", "make bench CONFIG=").replace("= ", "=")
    made = (
        f"`{command}` on {facts['utc'][:10]}, {facts['cpu']}, {facts['cpus_usable']} cores, {threads}; "
        f"Python {facts['python']}, {versions}; commit {facts['commit'][:7]}. {meta.rate_rps:.3g} requests/s "
        f"offered to both. `bench compare {run} --all` prints the whole report with its doubts."
    )
    return f"<!-- results: {run} -->\n{report}\n\n{made}\n<!-- end of results -->"


def updated(text: str) -> str:
    """Return the README's text with its section made anew."""
    found = SECTION.search(text)
    if found is None:
        raise SystemExit("README.md has no results section")
    return text.replace(found.group(0), section(found.group(1)))


if __name__ == "__main__":
    README.write_text(updated(README.read_text(encoding="utf-8")), encoding="utf-8")
