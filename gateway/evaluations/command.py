"""`genplat evaluate`: candidates measured on data by a GenPlat that runs, or right here.

Talks to the platform through its public REST API alone.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any, TextIO

from gateway.answering import Place
from gateway.client import Client, Json
from gateway.evaluations.config import Plan
from gateway.evaluations.required import GateAnswer, GateQuestion, answered
from gateway.evaluations.views import TERMINAL, EvaluationView
from gateway.platform import find_dataset, is_file, platform
from gateway.progress import Progress, bar
from gateway.uploading import uploaded
from shared.storage import atomic_file
from ui.evaluation_tables import shown_results

POLL_SECONDS = 0.5
INTERRUPTED = 130
GATE_CLOSED = 4
EXIT_CODES = {"succeeded": 0, "failed": 1, "cancelled": 3}
REPORTS = ("html", "json", "csv")
_WITHOUT = "evaluate without one: --local."


class Report:
    """What an evaluation tells: lines for people, or (``as_json``) one JSON object a line, each
    with ``event`` and ``data``; the last one is the evaluation."""

    def __init__(self, stream: TextIO, *, as_json: bool) -> None:
        self._stream, self._as_json = stream, as_json
        # What is said beside the events must not stand between the objects.
        self._progress = Progress(sys.stderr if as_json else stream)

    def say(self, text: str) -> None:
        self._progress.say(text)

    def event(self, name: str, data: Json) -> None:
        if self._as_json:
            self._stream.write(json.dumps({"event": name, "data": data}) + "\n")
            self._stream.flush()

    def progress(self, done: int, total: int, phase: str | None) -> None:
        self.event("progress", {"done": done, "total": total, "phase": phase})
        share = done / total if total else 0.0
        self._progress.show(f"  {bar(share)} {done:,}/{total:,} {phase or 'waiting'}")

    def end(self, evaluation: Json) -> None:
        self.event("evaluation", evaluation)
        if self._as_json:
            return
        for warning in evaluation["warnings"]:
            self.say(f"Note: {warning}")
        if evaluation["results"] is not None:
            self.say(table(evaluation))
        else:
            why = (evaluation["error"] or {}).get("message")
            self.say(f"The evaluation is {evaluation['status']}{f': {why}' if why else '.'}")

    def gate(self, found: GateAnswer) -> None:
        self.event("gate", found.model_dump())
        if not self._as_json:
            for one in found.verdicts:
                self.say(("ok   " if one.holds else "FAIL ") + one.sentence)


def table(evaluation: Json) -> str:
    """Values with their intervals, and what differs for sure."""
    shown = shown_results(evaluation)
    lines = [["", *(_short(name) for name in shown.names)]]
    for row in shown.metrics:
        cells = [f"{text} ({interval})" if interval else text for text, interval in row.values]
        told = [change.verdict if change else "" for change in row.changes]
        marks = {"better": " +", "worse": " −", "": ""}
        lines.append([row.title, *(c + marks[t] for c, t in zip(cells, told, strict=True))])
    widths = [max(len(line[place]) for line in lines) for place in range(len(lines[0]))]
    return "\n".join(
        "  "
        + "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def _short(name: str) -> str:
    return name if len(name) <= 40 else f"…{name[-39:]}"


def evaluate(plan: Plan, place: Place, *, report: Report, detach: bool = False) -> int:
    """On the platform; returns the exit code."""
    with platform(
        place.settings, place.url, place.key, command=place.command, without=_WITHOUT
    ) as client:
        dataset_id = None
        if plan.dataset is not None:
            dataset_id = (
                uploaded(client, Path(plan.dataset), say=report.say)
                if is_file(plan.dataset)
                else find_dataset(client, plan.dataset)
            )
        spec = plan.spec_for(dataset_id).model_dump(mode="json", exclude_unset=True)
        made = client.ask("POST", "/api/evaluations", json=spec)
        report.say(f"Evaluation {made['id']}: {client.url}/evaluations/{made['id']}")
        if detach:
            report.event("evaluation", made)
            return 0
        return _follow(client, made["id"], plan, report)


def _follow(client: Client, evaluation_id: str, plan: Plan, report: Report) -> int:
    """Until it ends. Whoever leaves before that leaves it running."""
    path = f"/api/evaluations/{evaluation_id}"
    try:
        while (found := client.ask("GET", path))["status"] not in TERMINAL:
            report.progress(found["done"], found["total"], found["phase"])
            time.sleep(POLL_SECONDS)
    except KeyboardInterrupt:
        report.say(f"The evaluation goes on: {client.url}/evaluations/{evaluation_id}")
        return INTERRUPTED
    if found["results"] is not None and plan.output_dir is not None:
        for kind in REPORTS:
            answer = client.request("GET", f"{path}/report", params={"format": kind})
            keep(plan.output_dir, kind, answer.content)
        report.say(f"Report: {plan.output_dir / 'report.html'}")
    return concluded(found, plan, report)


def keep(folder: Path, kind: str, content: bytes) -> None:
    with atomic_file(folder / f"report.{kind}") as file:
        file.write(content)


def concluded(evaluation: Json, plan: Plan, report: Report) -> int:
    """Tell of the end, and whether the rules hold; the exit code."""
    report.end(evaluation)
    code = EXIT_CODES.get(str(evaluation["status"]), 1)
    if code or not plan.require:
        return code
    question = GateQuestion(rules=plan.require)
    found = answered(EvaluationView.model_validate(evaluation), question)
    report.gate(found)
    return 0 if found.holds else GATE_CLOSED


def as_json(evaluation: EvaluationView) -> dict[str, Any]:
    return evaluation.model_dump(mode="json")
