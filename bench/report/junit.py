"""The regression gate as a JUnit file: what CI systems show beside the tests.

A test case a system and metric. A regression is a failure. What is suspected, not resolved, too uncertain,
not measured or not comparable is *skipped* with its reason: it is no failure, and must not look like a pass.
A system of which nothing could be judged is an error.
"""

from __future__ import annotations

import re
from xml.etree import ElementTree

from bench.report.gate import NOT_JUDGED, changed, sentence, sentences
from bench.run.evidence import commit_of
from bench.run.gate import Finding, GateReport, SystemGate

_ILLEGAL = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What XML 1.0 has no way to write, not even escaped."""


def gate_to_junit(report: GateReport) -> bytes:
    """Return the report as XML, UTF-8, with its declaration."""
    root = ElementTree.Element("testsuites", name="bench gate")
    for system in report.systems:
        _suite(root, system, report)
    ElementTree.indent(root)
    return bytes(ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)) + b"\n"


def _suite(root: ElementTree.Element, system: SystemGate, report: GateReport) -> None:
    suite = ElementTree.SubElement(root, "testsuite", name=_legal(f"{report.experiment}.{system.system}"))
    if system.entry is not None:
        suite.set("timestamp", _legal(system.entry.utc))
    properties = ElementTree.SubElement(suite, "properties")
    for key, value in _properties(system, report).items():
        ElementTree.SubElement(properties, "property", name=key, value=_legal(value))
    name = f"{report.experiment}.{system.system}"
    for found in system.findings:
        case = ElementTree.SubElement(suite, "testcase", classname=_legal(name), name=found.metric)
        _fill(case, found, report)
    is_open = system.is_vacuous and system.accepted is None
    if is_open or not system.findings:
        case = ElementTree.SubElement(suite, "testcase", classname=_legal(name), name="comparable")
        if is_open and system.findings:
            _child(case, "error", NOT_JUDGED, "nothing was judged: each metric says why")
        elif is_open:
            _child(case, "error", system.state, system.text)
    _child(suite, "system-out", "", "\n".join(sentences(system, report)))
    for kind in ("failure", "error", "skipped"):
        plural = {"failure": "failures", "error": "errors", "skipped": "skipped"}[kind]
        suite.set(plural, str(len(suite.findall(f"testcase/{kind}"))))
    suite.set("tests", str(len(suite.findall("testcase"))))


def _fill(case: ElementTree.Element, found: Finding, report: GateReport) -> None:
    outcome = found.judgement.outcome if found.judgement is not None else "not judged"
    text = sentence(found, report)
    if outcome == "regressed":
        _child(case, "failure", "regression", text)
    elif outcome in ("suspected", "not resolved", "too uncertain", "not judged"):
        ElementTree.SubElement(case, "skipped", message=_legal(text))
    else:
        _child(case, "system-out", "", text)


def _child(parent: ElementTree.Element, tag: str, kind: str, text: str) -> None:
    child = ElementTree.SubElement(parent, tag)
    if kind:
        child.set("type", kind)
        child.set("message", _legal(text))
    child.text = _legal(text)


def _properties(system: SystemGate, report: GateReport) -> dict[str, str]:
    found = {"run": report.run, "material_pct": f"{report.material_pct:g}"}
    for name, entry in (("", system.entry), ("baseline_", system.baseline)):
        if entry is not None:
            found[f"{name}commit"] = commit_of(entry)
    if system.baseline is not None:
        found["baseline_run"] = system.baseline.run
    if system.entry is not None:
        found |= {f"machine.{key}": str(value) for key, value in system.entry.machine.items()}
    judged = [one for one in system.findings if one.judgement is not None]
    found |= {f"{one.metric}.change": changed(one) for one in judged}
    return found


def _legal(text: str) -> str:
    return _ILLEGAL.sub("\ufffd", text)
