"""An evaluation with all that was asked and answered, as it is worked on and shown."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlmodel import Session, col, select

from gateway.database import Database
from gateway.evaluations.answered import Answer, Asked, Settings
from gateway.evaluations.asking import Sampling
from gateway.evaluations.candidates import Candidate
from gateway.evaluations.judge import Judged, summary_of
from gateway.evaluations.spec import EvaluationSpec
from gateway.leases import Lease
from gateway.orchestrator.upstreams import Upstream
from gateway.tables import Evaluation, EvaluationAnswer, EvaluationExample
from shared.route_labels import UPSTREAM_PREFIX

Answers = dict[tuple[int, int], EvaluationAnswer]


@dataclass(frozen=True)
class Work:
    """``answers`` by candidate and place."""

    owner: str
    spec: EvaluationSpec
    metrics: tuple[str, ...]
    candidates: tuple[Candidate, ...]
    examples: Sequence[EvaluationExample]
    answers: Answers

    def sampling(self) -> Sampling:
        spec = self.spec
        return Sampling(spec.max_tokens, spec.temperature, spec.top_p, spec.seed)

    def settings(self) -> Settings:
        judge = self.spec.judge
        kinds = judge.kinds if judge else ()
        names = {"similarity": "judge_similarity", "quality": "judge_preference"}
        return Settings(
            metrics=(*self.metrics, *(names[kind] for kind in kinds)),
            baseline=self.spec.baseline_place,
            seed=self.spec.seed,
            confidence=self.spec.confidence,
            resamples=self.spec.resamples,
        )

    def unanswered(self, candidate: int) -> list[int]:
        places = range(len(self.examples))
        return [place for place in places if (candidate, place) not in self.answers]

    def judged_places(self) -> list[int]:
        """The examples that the judge looks at: drawn by the seed."""
        places = range(len(self.examples))
        most = self.spec.judge.limit if self.spec.judge else 0
        if most >= len(places):
            return list(places)
        # Not a secret: the same examples must be judged after a stop.
        source = random.Random(f"judged:{self.spec.seed}")  # noqa: S311
        return sorted(source.sample(places, most))

    def unjudged(self) -> list[tuple[int, int]]:
        """Candidates and places of answers without a verdict."""
        return [
            (candidate, place)
            for candidate in range(len(self.candidates))
            for place in self.judged_places()
            if (found := self.answers.get((candidate, place))) and found.verdicts is None
        ]

    def judged(self, candidate: int, place: int) -> Judged:
        example, judge = self.examples[place], self.spec.judge
        other: str | None = example.targets[0]
        if judge is not None and judge.against == "baseline":
            baseline = self.spec.baseline_place
            there = self.answers.get((baseline, place)) if candidate != baseline else None
            other = there.text if there is not None and there.error is None else None
        found = self.answers[candidate, place]
        missing = found.error is not None and not found.refused
        return Judged(
            question=conversation_of(example),
            answer=None if missing else found.text,
            desired=example.targets[0],
            other=other,
        )

    def asked(self) -> list[Asked]:
        return [
            Asked(source_of(example), tuple(example.targets), example.tag)
            for example in self.examples
        ]

    def answered(self) -> list[list[Answer | None]]:
        """For the metrics: None where an answer could not be had, an empty one where it was
        refused."""
        return [
            [self._answer(candidate, place) for place in range(len(self.examples))]
            for candidate in range(len(self.candidates))
        ]

    def _answer(self, candidate: int, place: int) -> Answer | None:
        found, example = self.answers.get((candidate, place)), self.examples[place]
        if found is None or (found.error is not None and not found.refused):
            return None
        verdicts = found.verdicts or {}
        return Answer(
            source=source_of(example),
            references=tuple(example.targets),
            text=found.text,
            finish_reason=found.finish_reason,
            rendered=found.rendered,
            log_likelihood=found.log_likelihood,
            likelihood_tokens=found.likelihood_tokens,
            similarity=(verdicts.get("similarity") or {}).get("score"),
            preference=(verdicts.get("quality") or {}).get("preference"),
        )


def source_of(example: EvaluationExample) -> str:
    """What the user said last."""
    said = [turn["content"] for turn in example.messages if turn["role"] == "user"]
    return str(said[-1]) if said else "\n".join(turn["content"] for turn in example.messages)


def conversation_of(example: EvaluationExample) -> str:
    """All that was said, as a judge reads it; without names where the user said one thing alone."""
    turns = example.messages
    if [turn["role"] for turn in turns] == ["user"]:
        return str(turns[0]["content"])
    return "\n\n".join(f"{turn['role']}: {turn['content']}" for turn in turns)


def read_work(lease: Lease[Evaluation]) -> Work:
    return read_stored(lease.database, lease.id)


def read_stored(database: Database, evaluation_id: str) -> Work:
    with database.read() as session:
        found = session.get_one(Evaluation, evaluation_id)
        return Work(
            owner=found.owner,
            spec=EvaluationSpec.model_validate(found.spec),
            metrics=tuple(found.metrics),
            candidates=tuple(Candidate(**candidate) for candidate in found.candidates),
            examples=_examples(session, evaluation_id),
            answers=_answers(session, evaluation_id),
        )


def _examples(session: Session, evaluation_id: str) -> Sequence[EvaluationExample]:
    query = select(EvaluationExample).where(EvaluationExample.evaluation_id == evaluation_id)
    return session.exec(query.order_by(col(EvaluationExample.place))).all()


def _answers(session: Session, evaluation_id: str) -> Answers:
    query = select(EvaluationAnswer).where(EvaluationAnswer.evaluation_id == evaluation_id)
    return {(found.candidate, found.place): found for found in session.exec(query)}


def completed(
    results: dict[str, Any], work: Work, upstreams: Mapping[str, Upstream]
) -> dict[str, Any]:
    """The results with what is known of the candidates beside their metrics: what they were asked
    and cost, who answered, what came to nothing; and what is to be said of the judge."""
    for number, (candidate, result) in enumerate(
        zip(work.candidates, results["candidates"], strict=True)
    ):
        own = [found for (place, _), found in work.answers.items() if place == number]
        tokens = [sum(getattr(one, f"{kind}_tokens") for one in own) for kind in _KINDS]
        result |= {
            "name": candidate.name,
            "kind": candidate.kind,
            "missing": sum(one.error is not None and not one.refused for one in own),
            "refused": sum(one.refused for one in own),
            "prompt_tokens": tokens[0],
            "completion_tokens": tokens[1],
            "seconds": round(sum(one.seconds for one in own), 3),
            "served_by": sorted({one.served_by for one in own if one.served_by}),
            "cost": cost_of(upstreams, candidate.model, *tokens),
        }
    if work.spec.judge is not None:
        verdicts = [found.verdicts for found in work.answers.values() if found.verdicts]
        judged = summary_of(work.spec.judge, verdicts)
        spent = judged["prompt_tokens"], judged["completion_tokens"]
        results["judge"] = judged | {"cost": cost_of(upstreams, work.spec.judge.model, *spent)}
    return results


_KINDS = ("prompt", "completion")


def cost_of(
    upstreams: Mapping[str, Upstream], model: str, prompt: int, completion: int
) -> dict[str, Any] | None:
    """Where the operator has declared prices of a service LLM."""
    name = model.removeprefix(UPSTREAM_PREFIX) if model.startswith(UPSTREAM_PREFIX) else ""
    upstream = upstreams.get(name)
    if upstream is None or upstream.prices is None:
        return None
    amount = round(upstream.prices.of(prompt, completion), 6)
    return {"amount": amount, "currency": upstream.prices.currency}
