"""What batchers owe their callers: bench's server and other libraries' batchers in the same cases.

`python -m tests.validate.yardsticks` prints case × batcher. The other libraries are a yardstick: what they
break is told, and only bench's own failures count. Each case runs in a process of its own, so that a caller
who hangs for ever, or a thread that goes on spinning, spoils no other.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import threading
from multiprocessing.connection import Connection

from tests.serving.conformance import CASES, Hang, Limits, NotOffered
from tests.validate.batchers import CONTENDERS
from tests.validate.recording import Check, record

CASE_LIMIT_S = 20.0
"""A case's process is ended after so long: then the batcher blocks a call or its stop."""


def main() -> None:
    """Run every case over every batcher that is installed, print the table and record bench's failures."""
    found: dict[str, dict[str, str]] = {}
    for name, contender in CONTENDERS.items():
        release = contender.version()
        if release is None:
            print(f"{name}: not installed")
            continue
        column = f"{name} {release}".strip()
        found[column] = {case: run_apart(name, case) for case in CASES}
    print_table(found)
    failed = [f"{case}: {verdict}" for case, verdict in found["bench"].items() if verdict != "ok"]
    check = Check(value=len(failed), bound=0, direction="at most", n=len(CASES))
    print(f"conformance.bench.failed_cases: {check}", *failed, sep="\n  ")
    record({"conformance.bench.failed_cases": check})


def run_apart(contender: str, case: str) -> str:
    """Return the verdict of one case over one batcher, found in a process of its own."""
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_report, args=(contender, case, sender), daemon=True)
    process.start()
    sender.close()
    try:
        return str(receiver.recv()) if receiver.poll(CASE_LIMIT_S) else "hang: blocks its caller"
    except EOFError:
        return "died without a word"
    finally:
        process.kill()
        process.join()


def _report(contender: str, case: str, sender: Connection) -> None:
    logging.disable(logging.CRITICAL)
    # What a death planted by a case leaves behind in somebody's thread or loop is expected.
    threading.excepthook = lambda _: None
    sender.send(run_here(contender, case))
    os._exit(0)  # not waiting for threads that hang


def run_here(contender: str, case: str) -> str:
    """Return the verdict: `ok`, `hang: …`, `broken: …` or `not offered: …`."""
    try:
        CASES[case].check(CONTENDERS[contender].make, Limits())
    except NotOffered as missing:
        return f"not offered: {missing}"
    except Hang as hang:
        return f"hang: {hang}"
    except AssertionError as broken:
        return f"broken: {broken}"
    return "ok"


def print_table(found: dict[str, dict[str, str]]) -> None:
    """Print a word per case and batcher, then what the words stand for."""
    widths = {name: max(len(name), 11) for name in found}
    first = max(map(len, CASES))
    print(" " * first, *(f"{name:>{widths[name]}}" for name in found), sep="  ")
    for case in CASES:
        words = (f"{found[name][case].split(':')[0]:>{widths[name]}}" for name in found)
        print(f"{case:<{first}}", *words, sep="  ")
    for name, verdicts in found.items():
        for case, verdict in verdicts.items():
            if verdict != "ok":
                print(f"  {name}, {case}: {verdict}")


if __name__ == "__main__":
    main()
