"""`genplat doctor`: what is here, what lacks, and the way out. Changes nothing."""

import json
import os
from collections.abc import Sequence
from dataclasses import asdict

from gateway.doctor import machine, programs, service_llms, variables
from gateway.doctor.finding import Finding
from gateway.settings import GatewaySettings

_MARKS = {"ok": "ok  ", "warn": "warn", "fail": "FAIL"}


def examine(settings: GatewaySettings) -> list[Finding]:
    """Everything, in the order in which it is told."""
    return [
        machine.python(),
        machine.processor(),
        machine.memory(),
        machine.disk(settings.root),
        *machine.libraries(),
        machine.devices(),
        programs.database(settings),
        programs.queue(settings),
        *programs.renderer(os.environ),
        programs.base_model(),
        service_llms.upstreams(settings),
        programs.platform_running(settings),
        *variables.values(os.environ),
    ]


def report(findings: Sequence[Finding], *, as_json: bool) -> str:
    if as_json:
        return json.dumps([asdict(finding) for finding in findings], indent=2)
    width = max(len(finding.name) for finding in findings)
    return "\n".join(
        f"{_MARKS[finding.state]}  {finding.name:<{width}}  {finding.found}"
        + (f"\n      {'':<{width}}  → {finding.way_out}" if finding.way_out else "")
        for finding in findings
    )
