"""The report of `wirespan check`: what this host supports, what is missing, and what mends it.

Owns the form of the report; what is looked at belongs to `ebpf.preflight`, and of TLS to `tls.report`.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence

from agent.config import Configuration
from agent.tls.inspector import load_inspector
from agent.tls.report import TlsReport, TlsSurvey, format_lines
from ebpf.preflight import Finding, preflight
from ebpf.uretprobes import find_hazard


def report(configuration: Configuration, report_format: str) -> tuple[str, bool]:
    """Return the report of this host (`text` or `json`) and whether a run would work."""
    findings = preflight()
    rules = configuration.selection_rules()
    survey = TlsSurvey(
        load_inspector(), rules, enabled=configuration.tls.enabled, uretprobe_hazard=find_hazard()
    )
    tls = survey.run()
    text = format_json(findings, tls) if report_format == "json" else format_text(findings, tls)
    return text, would_run(findings)


def would_run(findings: Sequence[Finding]) -> bool:
    """Return whether everything that a run cannot do without is there."""
    return all(finding.satisfied for finding in findings if finding.required)


def format_json(findings: Sequence[Finding], tls: TlsReport) -> str:
    """Return what was found as one JSON object."""
    return json.dumps(
        {
            "would_run": would_run(findings),
            "findings": [dataclasses.asdict(finding) for finding in findings],
            "tls": dataclasses.asdict(tls),
        },
        indent=2,
    )


def format_text(findings: Sequence[Finding], tls: TlsReport) -> str:
    """Return what was found as lines for people, with the remedy below what is missing."""
    width = max((len(finding.subject) for finding in findings), default=0)
    lines = []
    for finding in findings:
        mark = "ok" if finding.satisfied else "missing" if finding.required else "limited"
        lines.append(f"{mark:<8} {finding.subject:<{width}}  {finding.detail}")
        if finding.remedy:
            lines.append(f"{'':<8} {'':<{width}}  → {finding.remedy}")
    lines.extend(("", *format_lines(tls), ""))
    lines.append(
        "`wirespan run` would work here."
        if would_run(findings)
        else "`wirespan run` would not work here: see what is missing above."
    )
    return "\n".join(lines)
