"""Makes evaluations: finds their data and candidates, and stores all that will be asked."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from gateway.database import Database
from gateway.datasets import store
from gateway.evaluations.candidates import Candidate, resolve, run_of
from gateway.evaluations.examples import Example, drawn, grouped, read_tags, tag_column
from gateway.evaluations.metrics.tasks import BY_TASK, Task, task_of
from gateway.evaluations.spec import MAX_EXAMPLES, EvaluationSpec
from gateway.evaluations.trained_on import held_out_records, warnings_of
from gateway.evaluations.views import EvaluationView, view_of
from gateway.idempotency import Attached
from gateway.services import Services
from gateway.tables import Dataset, Evaluation, EvaluationExample
from shared.datasets import read_records
from shared.errors import InvalidData, NotFound

FEW = 30


@dataclass(frozen=True)
class _Data:
    dataset: Dataset
    examples: list[Example]


async def create_evaluation(
    *, services: Services, owner: str, spec: EvaluationSpec, claim: Attached | None = None
) -> EvaluationView:
    """Check and store it with its examples; a gateway works on it from then on."""
    view = await asyncio.to_thread(_create, services, owner, spec, claim)
    services.evaluation_wanted.set()
    return view


def _create(
    services: Services, owner: str, spec: EvaluationSpec, claim: Attached | None
) -> EvaluationView:
    candidates = [
        resolve(services, owner, name, param=f"candidates.{place}")
        for place, name in enumerate(spec.candidates)
    ]
    if spec.judge is not None:
        resolve(services, owner, spec.judge.model, param="judge.model")
    data = _data(services, owner, spec)
    examples = drawn(data.examples, limit=spec.limit, seed=spec.seed)
    check_examples(examples)
    task, metrics = measured_by(spec, examples)
    evaluation = Evaluation(
        owner=owner,
        name=spec.name.strip() or f"{data.dataset.name} v{data.dataset.version}",
        spec=spec.model_dump(mode="json"),
        dataset_id=data.dataset.id,
        task=task,
        metrics=metrics,
        candidates=[candidate.as_json() for candidate in candidates],
        warnings=_warnings(services, spec, candidates, examples),
        examples=len(examples),
        total=len(examples) * len(candidates) + judged(spec, len(examples)),
    )
    _insert(services.database, evaluation, examples, claim)
    return view_of(evaluation)


def measured_by(spec: EvaluationSpec, examples: Sequence[Example]) -> tuple[Task, list[str]]:
    """The task and its metrics, as the data or the user says."""
    references = [example.references for example in examples]
    task = spec.task
    if task == "auto":
        task = task_of([example.source for example in examples], references)
    if spec.metrics == "auto":
        return task, list(BY_TASK[task])
    return task, list(dict.fromkeys(spec.metrics))


def judged(spec: EvaluationSpec, examples: int) -> int:
    """How many answers the judge is asked about."""
    if spec.judge is None:
        return 0
    return min(spec.judge.limit, examples) * len(spec.candidates)


def _data(services: Services, owner: str, spec: EvaluationSpec) -> _Data:
    database, storage = services.database, services.storage
    if spec.held_out_of is not None:
        with database.read() as session:
            run = run_of(session, owner, spec.held_out_of)
            named = run.spec.get("validation_dataset_id") or run.dataset_id
            dataset = session.get_one(Dataset, named)
        return _Data(dataset, grouped(held_out_records(storage, run)))
    try:
        dataset = store.get_dataset(
            database=database, owner=owner, dataset_id=spec.dataset_id or ""
        )
        records = list(read_records(storage.dataset_records(dataset.id)))
    except (NotFound, FileNotFoundError) as error:
        raise InvalidData(
            f"dataset_id names no dataset of yours: {(spec.dataset_id or '')[:80]!r}.",
            param="dataset_id",
        ) from error
    column = tag_column(dataset, spec.tag_column)
    if spec.tag_column and column is None:
        raise InvalidData(
            f"tag_column: there is no column {spec.tag_column[:80]!r} in {dataset.name}.",
            param="tag_column",
        )
    tags = read_tags(storage, dataset, column) if column else {}
    return _Data(dataset, grouped(records, tags))


def check_examples(examples: Sequence[Example]) -> None:
    if not examples:
        raise InvalidData("There are no examples to ask.", param="dataset_id")
    if len(examples) > MAX_EXAMPLES:
        raise InvalidData(
            f"limit: the data has {len(examples):,} examples; at most {MAX_EXAMPLES:,} are asked. "
            f"Set limit to {MAX_EXAMPLES} or less, and so many are drawn by the seed.",
            param="limit",
        )


def _warnings(
    services: Services, spec: EvaluationSpec, candidates: list[Candidate], examples: list[Example]
) -> list[str]:
    found = warnings_of(
        database=services.database,
        storage=services.storage,
        candidates=candidates,
        examples=examples,
    )
    return [*found, *cautions(spec, examples)]


def cautions(spec: EvaluationSpec, examples: Sequence[Example]) -> list[str]:
    """What is to be known before any number is believed."""
    found = []
    if len(examples) < FEW:
        found.append(f"{len(examples)} examples are few: intervals will be wide, and rough.")
    if spec.judge is not None and spec.judge.model in spec.candidates:
        found.append(f"{spec.judge.model} judges its own answers, which models tend to prefer.")
    return found


def as_rows(evaluation_id: str, examples: Sequence[Example]) -> list[EvaluationExample]:
    return [
        EvaluationExample(
            evaluation_id=evaluation_id,
            place=place,
            row=example.row,
            messages=[
                message.model_dump(mode="json", include={"role", "content"})
                for message in example.messages
            ],
            targets=example.references,
            tag=example.tag or None,
        )
        for place, example in enumerate(examples)
    ]


def _insert(
    database: Database, evaluation: Evaluation, examples: list[Example], claim: Attached | None
) -> None:
    with database.write() as session:
        session.add(evaluation)
        session.flush()
        session.add_all(as_rows(evaluation.id, examples))
        if claim is not None:
            claim.attach(session, evaluation.id)
