"""The pages of evaluations, with results as they are really computed and texts as odd as may be."""

from datetime import timedelta
from typing import Any

from gateway.evaluations.answered import Answer, Asked, Settings
from gateway.evaluations.judge import RUBRIC
from gateway.evaluations.rows import AnswerView, ExampleView, Wanted
from gateway.evaluations.summary import summarise
from gateway.evaluations.views import EvaluationError, EvaluationView
from tests.ui.texts import BASE, EVIL, LONG, NOW
from ui import evaluation_form
from ui.evaluation_tables import interval_chart, report_style, shown_results
from ui.rendering import render

NAMES = (BASE, "support-answers", EVIL)
METRICS = ("rougeL", "bleu", "exact_match", "perplexity", "length")


def results() -> dict[str, Any]:
    asked = [
        Asked(f"Say {number} " + "please " * (number % 7), (f"the number is {number}",), tag)
        for number, tag in enumerate(["short", EVIL] * 12)
    ]
    texts = (
        lambda number: f"number {number}",
        lambda number: f"the number is {number if number % 3 else 'unknown'}",
        lambda number: "",
    )
    answers = [
        [
            Answer(
                one.source,
                one.references,
                text(number),
                log_likelihood=-3.0 - number % 4,
                likelihood_tokens=3,
            )
            for number, one in enumerate(asked)
        ]
        for text in texts
    ]
    found, _ = summarise(asked, answers, Settings(METRICS, resamples=200))
    for name, one in zip(NAMES, found["candidates"], strict=True):
        one |= {"name": name, "kind": "base", "missing": 0, "refused": 0, "completion_tokens": 9}
    return found | {
        "judge": {
            "model": EVIL,
            "judged": 10,
            "unreadable": 1,
            "pairs": 10,
            "inconsistent": 2,
            "first_position": 0.61,
            "prompt_tokens": 1000,
            "completion_tokens": 200,
            "cost": {"amount": 0.0123, "currency": "USD"},
        }
    }


def evaluation(status: str = "succeeded", **changes: Any) -> EvaluationView:
    values = {
        "id": "ev_1",
        "name": LONG[:100],
        "status": status,
        "phase": None,
        "dataset_id": "ds_1",
        "task": "general",
        "metrics": list(METRICS),
        "candidates": [{"name": name, "model": name, "kind": "base"} for name in NAMES],
        "baseline": 0,
        "examples": 24,
        "done": 72,
        "total": 72,
        "warnings": [EVIL, "24 examples are few: intervals will be wide, and rough."],
        "results": results() if status == "succeeded" else None,
        "error": None,
        "spec": {"held_out_of": None},
        "created_at": NOW - timedelta(minutes=9),
        "started_at": NOW - timedelta(minutes=8),
        "finished_at": NOW,
    }
    return EvaluationView.model_validate(values | changes)


def example(place: int) -> ExampleView:
    answers = [
        AnswerView(
            candidate=number,
            name=name,
            text=text,
            finish_reason="stop",
            completion_tokens=4,
            seconds=0.5,
            served_by=name,
            rendered=None,
            error="The prompt is too long." if number == 2 else None,
            scores={"rougeL": 0.25 * number, "bleu": None, "length": 12.0},
            verdicts={"similarity": {"score": 3, "reason": EVIL}, "quality": None},
        )
        for number, (name, text) in enumerate(zip(NAMES, (EVIL, LONG, ""), strict=True))
    ]
    return ExampleView(
        place=place,
        row=place,
        tag=EVIL,
        messages=[{"role": "system", "content": EVIL}, {"role": "user", "content": LONG}],
        references=[EVIL, "another one"],
        answers=answers,
    )


def show(shown: EvaluationView, **changes: Any) -> str:
    context: dict[str, Any] = {
        "evaluation": shown,
        "dataset": "plantuml-scenarios v2",
        "wanted": Wanted("worst"),
        "orders": [("worst", "the worst answers"), ("place", "as they come")],
        "problem": None,
        "shown": None,
        "examples": [],
        "has_more": False,
        "history": None,
    }
    if shown.results is not None:
        value = {"value": 0.5, "low": 0.4, "high": 0.7}
        context |= {
            "shown": shown_results(shown.model_dump()),
            "examples": [example(place) for place in range(2)],
            "has_more": True,
            "history": interval_chart("ROUGE-L", [(EVIL, value), (LONG, value)], "share"),
        }
    return render("evaluations/show.html", **(context | changes))


def new(**changes: Any) -> str:
    values = evaluation_form.initial_values("ds_1", ["run_1"])
    context: dict[str, Any] = {
        "datasets": [("", "None"), ("ds_1", LONG)],
        "runs": [("", "None"), ("run_1", EVIL)],
        "groups": [
            ("Routes", [(name, name) for name in [LONG, *(f"route-{n}" for n in range(24))]]),
            ("Runs", [("run_1", EVIL)]),
            ("Base models", [(BASE, BASE)]),
        ],
        "judges": [("", "No judge"), ("run_1", EVIL)],
        "tasks": evaluation_form.TASKS,
        "rubric": RUBRIC,
        "values": values,
        "errors": {},
        "error": None,
    }
    return render("evaluations/new.html", **(context | changes))


def evaluation_pages() -> dict[str, str]:
    listed = [evaluation("running", done=12, phase="answering"), evaluation("failed")]
    waits = evaluation("failed", error=EvaluationError(code="x", message=EVIL), done=3)
    every = dict.fromkeys(evaluation_form.NAMES, "This cannot be, and here is what to do.")
    return {
        "evaluations-empty": render(
            "evaluations/list.html", evaluations=[], has_more=False, datasets={}
        ),
        "evaluations": render(
            "evaluations/list.html",
            evaluations=listed,
            has_more=True,
            datasets={"ds_1": LONG},
        ),
        "evaluation-new": new(),
        "evaluation-new-errors": new(errors=every, error=EVIL),
        "evaluation-new-empty": new(groups=[]),
        "evaluation-new-without-data": new(datasets=[("", "None")], runs=[("", "None")]),
        "evaluation-running": show(evaluation("running", done=12, phase="answering")),
        "evaluation-failed": show(waits, problem=EVIL),
        "evaluation": show(evaluation()),
    }


def report() -> str:
    shown = evaluation()
    return render(
        "evaluations/report.html",
        style=report_style(),
        evaluation=shown,
        shown=shown_results(shown.model_dump()),
        examples=[example(0)],
        left_out=3,
    )
