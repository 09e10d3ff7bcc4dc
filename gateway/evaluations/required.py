"""Gates over stored evaluations: whether a model may be put to work. Knows no HTTP."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from gateway.database import Database
from gateway.evaluations.gates import Gate, GateRule, evaluate_gate
from gateway.evaluations.views import EvaluationView, get_evaluation
from gateway.model_names import split_checkpoint
from gateway.models import Weights
from shared.errors import Conflict, InvalidData, NotFound


class GateQuestion(BaseModel):
    """``candidate``: its place, by default the last one."""

    model_config = ConfigDict(extra="forbid")

    rules: list[GateRule] = Field(min_length=1, max_length=20)
    candidate: int | None = Field(None, ge=0, le=100)


class GateVerdict(BaseModel):
    rule: str
    holds: bool
    sentence: str


class GateAnswer(BaseModel):
    holds: bool
    candidate: str
    verdicts: list[GateVerdict]


def answered(evaluation: EvaluationView, question: GateQuestion) -> GateAnswer:
    last = len(evaluation.candidates) - 1
    place = last if question.candidate is None else question.candidate
    if place > last:
        raise InvalidData(f"candidate must lie between 0 and {last}.", param="candidate")
    shown = evaluation.model_dump()
    verdicts = []
    for rule in question.rules:
        found = evaluate_gate(shown, place, rule)
        verdicts.append(GateVerdict(rule=str(rule), holds=found.holds, sentence=found.sentence))
    return GateAnswer(
        holds=all(one.holds for one in verdicts),
        candidate=evaluation.candidates[place]["name"],
        verdicts=verdicts,
    )


def check_gate(*, database: Database, owner: str, gate: Gate, weights: Weights) -> dict[str, Any]:
    """What is kept with a deployment that may be made. Conflict, with the reasons, where a rule
    does not hold; InvalidData where there is no such evaluation."""
    try:
        evaluation = get_evaluation(database=database, owner=owner, evaluation_id=gate.evaluation)
    except NotFound as error:
        raise InvalidData(
            f"require.evaluation names no evaluation of yours: {gate.evaluation[:80]!r}.",
            param="require",
        ) from error
    place = _place(evaluation, weights)
    if place is None:
        raise Conflict(
            f"The evaluation {evaluation.id} did not measure this model: its candidates are "
            f"{', '.join(one['name'] for one in evaluation.candidates)}.",
            code="gate_not_measured",
            param="require",
        )
    found = answered(evaluation, GateQuestion(rules=gate.rules, candidate=place))
    if not found.holds:
        reasons = [one.sentence for one in found.verdicts if not one.holds]
        raise Conflict(
            f"The model may not be deployed. {' '.join(reasons)}",
            code="gate_closed",
            param="require",
        )
    return {
        "evaluation": evaluation.id,
        "rules": [one.rule for one in found.verdicts],
        "sentences": [one.sentence for one in found.verdicts],
    }


def _place(evaluation: EvaluationView, weights: Weights) -> int | None:
    """The candidate that has these weights."""
    for place, candidate in enumerate(evaluation.candidates):
        kind, run_id = candidate["kind"], candidate["run_id"]
        if kind == "base":
            same = weights.run_id is None and candidate["name"] == weights.base_model
        elif kind in ("run", "checkpoint"):
            _, step = split_checkpoint(candidate["model"])
            same = (run_id, step) == (weights.run_id, weights.checkpoint)
        else:
            # (A name says nothing of the weights: it may mean others by now.)
            same = False
        if same:
            return place
    return None
