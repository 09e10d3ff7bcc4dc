"""An evaluation as one file: a page that needs nothing else, JSON, or CSV. Only reads."""

import csv
import io
import json
from typing import Any, Literal

from gateway.database import Database
from gateway.evaluations.rows import ExampleView, example_view
from gateway.evaluations.stored import read_stored
from gateway.evaluations.views import EvaluationView, get_evaluation
from shared.errors import Conflict
from ui.evaluation_tables import report_style, shown_results
from ui.rendering import render

ReportKind = Literal["html", "json", "csv"]
# A page with more would be slow to open; JSON and CSV have them all.
SHOWN_EXAMPLES = 200
# What makes a spreadsheet take a text for a formula.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def make_report(*, database: Database, owner: str, evaluation_id: str, kind: ReportKind) -> bytes:
    view = get_evaluation(database=database, owner=owner, evaluation_id=evaluation_id)
    if view.results is None:
        raise Conflict(
            f"The evaluation is {view.status}; there is a report once it has succeeded.",
            code="no_results_yet",
        )
    work = read_stored(database, evaluation_id)
    examples = [example_view(work, place) for place in range(len(work.examples))]
    return written(view.model_dump(mode="json"), examples, kind)


def written(evaluation: dict[str, Any], examples: list[ExampleView], kind: ReportKind) -> bytes:
    """``evaluation`` as `EvaluationView` has it."""
    if kind == "json":
        whole = {**evaluation, "answers": [one.model_dump(mode="json") for one in examples]}
        return json.dumps(whole, indent=1, ensure_ascii=False).encode() + b"\n"
    if kind == "csv":
        return _csv(evaluation, examples)
    page = render(
        "evaluations/report.html",
        style=report_style(),
        evaluation=EvaluationView.model_validate(evaluation),
        shown=shown_results(evaluation),
        examples=examples[:SHOWN_EXAMPLES],
        left_out=max(0, len(examples) - SHOWN_EXAMPLES),
    )
    return page.encode()


def _csv(evaluation: dict[str, Any], examples: list[ExampleView]) -> bytes:
    """A line an answer."""
    metrics = [metric["name"] for metric in evaluation["results"]["metrics"]]
    out = io.StringIO(newline="")
    writer = csv.writer(out)
    fields = ["place", "row", "tag", "prompt", "reference", "candidate", "answer", "error"]
    writer.writerow([*fields, "finish_reason", "seconds", *metrics])
    for example in examples:
        prompt = "\n".join(turn["content"] for turn in example.messages)
        for answer in example.answers:
            texts = [example.tag, prompt, example.references[0], answer.name, answer.text]
            writer.writerow(
                [
                    example.place,
                    example.row,
                    *map(_cell, [*texts, answer.error, answer.finish_reason]),
                    answer.seconds,
                    *(answer.scores.get(metric) for metric in metrics),
                ]
            )
    return out.getvalue().encode()


def _cell(text: str | None) -> str:
    """A text that no spreadsheet computes."""
    text = text or ""
    return f"'{text}" if text.startswith(_FORMULA) else text
