"""An evaluation without a platform: candidates asked one after the other in an inference service of
our own, or at service LLMs; what was answered is kept in the output folder, so that a command that
was stopped goes on where it was."""

import asyncio
import os
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

from gateway.answering import Answerer, Place, open_answerer
from gateway.answering.weights import find_local, manifest_sha256
from gateway.datasets.canonical import check_file
from gateway.evaluations.asking import Body, Turns, ask, drawn_by
from gateway.evaluations.candidates import Candidate
from gateway.evaluations.command import REPORTS, Report, as_json, concluded, keep
from gateway.evaluations.config import Plan
from gateway.evaluations.creating import as_rows, cautions, check_examples, judged, measured_by
from gateway.evaluations.examples import Example, drawn, grouped, read_tags, tag_column
from gateway.evaluations.journal import Journal, open_journal
from gateway.evaluations.judge import Judge
from gateway.evaluations.report import written
from gateway.evaluations.rows import example_view
from gateway.evaluations.scoring import score_apart
from gateway.evaluations.spec import EvaluationSpec
from gateway.evaluations.stored import Work, completed
from gateway.evaluations.views import EvaluationView, view_of
from gateway.line_files import Facts
from gateway.orchestrator.upstreams import read_upstreams
from gateway.tables import Dataset, Evaluation, EvaluationAnswer, now
from shared.chat import ChatMessage, Likelihood, LikelihoodQuestion
from shared.datasets import read_records
from shared.errors import InvalidRequest
from shared.route_labels import UPSTREAM_PREFIX
from shared.storage import Storage, sha256_of
from shared.tasks import each

ANSWERS = "answers.jsonl"
_LOCAL = "ev_local"
# What is found out by asking, and not from the answer's text.
_MEASURED_BY_ASKING = ("render_rate", "perplexity")


class AskedAnswerer:
    """A model behind an `Answerer`, as evaluations ask it."""

    def __init__(self, answerer: Answerer) -> None:
        self._answerer = answerer

    async def answer(self, body: Body) -> tuple[Body, str]:
        return await self._answerer.answer(body), self._answerer.model_id

    async def likelihood(self, messages: Turns, answer: str) -> Likelihood | None:
        if (inference := self._answerer.inference) is None:
            return None
        turns = [ChatMessage.model_validate(message) for message in messages]
        return await inference.likelihood(
            LikelihoodQuestion(model=self._answerer.loaded_as, messages=turns, answer=answer)
        )

    async def renders(self, source: str) -> bool | None:
        if (inference := self._answerer.inference) is None:
            return None
        return await drawn_by(inference, source)


def evaluate_here(plan: Plan, place: Place, *, report: Report) -> int:
    """Returns the exit code."""
    if plan.dataset is None or plan.output_dir is None or not Path(plan.dataset).is_file():
        raise InvalidRequest(
            "To evaluate right here, name the data and the result: dataset (a file) and "
            "output_dir (a folder)."
        )
    evaluation = asyncio.run(_evaluate(plan, place, plan.output_dir, report))
    return concluded(as_json(evaluation), plan, report)


async def _evaluate(plan: Plan, place: Place, folder: Path, report: Report) -> EvaluationView:
    source = Path(str(plan.dataset))
    spec = plan.spec_for("local")
    examples = read_examples(source, spec)
    task, metrics = measured_by(spec, examples)
    if all(name.startswith(UPSTREAM_PREFIX) for name in spec.candidates):
        metrics = [name for name in metrics if name not in _MEASURED_BY_ASKING]
    work = Work(
        owner="",
        spec=spec,
        metrics=tuple(metrics),
        candidates=tuple(
            Candidate(name, name, "upstream" if name.startswith(UPSTREAM_PREFIX) else "base")
            for name in spec.candidates
        ),
        examples=as_rows(_LOCAL, examples),
        answers={},
    )
    facts = facts_of(spec, source, metrics, place)
    evaluation = Evaluation(
        id=_LOCAL,
        owner="",
        name=spec.name or source.stem,
        spec=spec.model_dump(mode="json"),
        dataset_id=source.name,
        task=task,
        metrics=metrics,
        candidates=[candidate.as_json() for candidate in work.candidates],
        warnings=cautions(spec, examples),
        examples=len(examples),
        total=len(examples) * len(spec.candidates) + judged(spec, len(examples)),
        started_at=now(),
    )
    with open_journal(folder / ANSWERS, facts) as journal:
        work = replace(work, answers=journal.answers)
        notes = _Notes(journal, evaluation, report)
        await _answer_rest(work, place, notes, report)
        if spec.judge is not None:
            await _judge_rest(work, place, notes, report)
    return await _concluded(evaluation, work, folder, place)


def read_examples(source: Path, spec: EvaluationSpec) -> list[Example]:
    """The examples of a file of any form that datasets may have."""
    with tempfile.TemporaryDirectory(prefix="genplat-") as name:
        storage = Storage(Path(name))
        folder = storage.dataset("ds_local")
        folder.mkdir(parents=True)
        os.symlink(source.resolve(), folder / "source")
        checked = check_file(source, folder / "records.jsonl", filename=source.name)
        fields = {key: getattr(checked, key) for key in ("file_type", "format", "rows", "columns")}
        dataset = Dataset(
            id="ds_local",
            owner="",
            name=source.stem,
            filename=source.name,
            bytes=0,
            sha256="",
            records_sha256="",
            mapping=checked.mapping,
            **fields,
        )
        column = tag_column(dataset, spec.tag_column)
        tags = read_tags(storage, dataset, column) if column else {}
        records = list(read_records(folder / "records.jsonl"))
    examples = drawn(grouped(records, tags), limit=spec.limit, seed=spec.seed)
    check_examples(examples)
    return examples


def facts_of(spec: EvaluationSpec, source: Path, metrics: Sequence[str], place: Place) -> Facts:
    """What answers depend on: those to another question, or of other weights, are no answers."""
    facts = spec.model_dump(
        mode="json",
        exclude={"name", "metrics", "task", "confidence", "resamples", "baseline", "dataset_id"},
    )
    judge = spec.judge
    if judge is not None and judge.against == "baseline":
        facts["baseline"] = spec.candidates[spec.baseline_place]
    names = [*spec.candidates, *([judge.model] if judge else [])]
    return facts | {
        "rows": sha256_of(source),
        "measured": [name for name in _MEASURED_BY_ASKING if name in metrics],
        "weights": {name: _learned(place, name) for name in names},
    }


def _learned(place: Place, name: str) -> str | None:
    """What a training has written may be written anew; other names stay what they are."""
    if name.startswith(UPSTREAM_PREFIX):
        return None
    result = find_local(Storage(place.settings.root), name).result
    return manifest_sha256(result) if result is not None else None


class _Notes:
    """Keeps answers as they come, and tells how far it is."""

    def __init__(self, journal: Journal, evaluation: Evaluation, report: Report) -> None:
        self._journal, self._evaluation, self._report = journal, evaluation, report
        own = journal.answers.values()
        evaluation.done = len(own) + sum(one.verdicts is not None for one in own)

    async def keep(self, answer: EvaluationAnswer, phase: str) -> None:
        await self._journal.keep(answer)
        self._evaluation.done += 1
        self._report.progress(self._evaluation.done, self._evaluation.total, phase)


async def _answer_rest(work: Work, place: Place, notes: _Notes, report: Report) -> None:
    for number, candidate in enumerate(work.candidates):
        places = work.unanswered(number)
        if not places:
            continue
        async with open_answerer(place, candidate.name, say=report.say) as answerer:
            asker = AskedAnswerer(answerer)

            async def answer(at: int, number: int = number, asker: AskedAnswerer = asker) -> None:
                example = work.examples[at]
                reply = await ask(
                    asker,
                    messages=example.messages,
                    references=example.targets,
                    sampling=work.sampling(),
                    metrics=work.metrics,
                )
                row = EvaluationAnswer(
                    evaluation_id=_LOCAL, candidate=number, place=at, **asdict(reply)
                )
                await notes.keep(row, "answering")

            await each(places, answer, at_once=answerer.capacity)


async def _judge_rest(work: Work, place: Place, notes: _Notes, report: Report) -> None:
    spec, rest = work.spec.judge, work.unjudged()
    if spec is None or not rest:
        return
    async with open_answerer(place, spec.model, say=report.say) as answerer:
        judge = Judge(AskedAnswerer(answerer), spec, seed=work.spec.seed)

        async def judge_one(at: tuple[int, int]) -> None:
            answer = work.answers[at]
            answer.verdicts = await judge.verdicts(work.judged(*at))
            await notes.keep(answer, "judging")

        await each(rest, judge_one, at_once=answerer.capacity)


async def _concluded(
    evaluation: Evaluation, work: Work, folder: Path, place: Place
) -> EvaluationView:
    results, scores = await score_apart(work)
    for (candidate, at), answer in work.answers.items():
        answer.scores = scores[candidate][at]
    upstreams = read_upstreams(place.settings.upstreams_file)
    evaluation.results = completed(results, work, upstreams)
    evaluation.status, evaluation.finished_at = "succeeded", now()
    view = view_of(evaluation)
    examples = [example_view(work, at) for at in range(len(work.examples))]
    for kind in REPORTS:
        keep(folder, kind, written(as_json(view), examples, kind))  # type: ignore[arg-type]
    return view
