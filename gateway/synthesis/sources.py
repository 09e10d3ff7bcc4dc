"""Where a synthesis begins: the rows of a dataset, the failures of an evaluation, and the rows that
must not come out again."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice

from sqlmodel import Session, col, select

from gateway.datasets.store import get_dataset
from gateway.services import Services
from gateway.synthesis.generating import Aim
from gateway.synthesis.pairs import Pair, Seeds, seeds_of
from gateway.synthesis.spec import SynthesisSpec
from gateway.synthesis.work import Plan
from gateway.tables import Dataset, Evaluation, EvaluationAnswer, EvaluationExample
from shared.datasets import read_records
from shared.errors import InvalidData, NotFound

# So many rows of a dataset are read.
MAX_KNOWN = 50_000
MAX_SEEDS = 5000
# Evaluations of a dataset that are looked at for what they hold out.
MAX_LOOKED = 100


@dataclass(frozen=True)
class Sources:
    """What a spec names, read. ``into``: the dataset that the new rows go to, if any."""

    plan: Plan
    into: Dataset | None
    warnings: list[str] = field(default_factory=list)


def read_sources(services: Services, owner: str, spec: SynthesisSpec) -> Sources:
    """`InvalidData`, naming the field, where something is not there or is of no use."""
    rows = read_rows(services, owner, spec)
    warnings = []
    if rows.into is not None and rows.seeds.left_out:
        warnings.append(
            f"{rows.seeds.left_out:,} rows of {rows.into.name} hold several turns: they are no "
            "examples."
        )
    if rows.into is not None and rows.held_out:
        warnings.append(
            f"{len(rows.held_out):,} rows of {rows.into.name} are asked by evaluations as held "
            "out: they are no examples, and nothing like them is kept."
        )
    if spec.evaluation_id is not None:
        aims = _aims(_failures(services, owner, spec), spec)
    else:
        unseen = {pair.prompt for pair in rows.held_out}
        examples = tuple(pair for pair in rows.seeds.pairs if pair.prompt not in unseen)
        aims = [Aim(examples[:MAX_SEEDS])]
        if not examples:
            raise InvalidData(
                "dataset_id: the dataset holds no rows of one question and its answer (but what "
                "is held out for evaluations).",
                param="dataset_id",
            )
    plan = Plan(spec, aims, rows.known, rows.guarded)
    return Sources(plan, rows.into, warnings)


@dataclass(frozen=True)
class Rows:
    """What new rows are held against: ``known`` are there already, ``guarded`` are asked by
    evaluations; by where they stand. ``held_out`` of ``into``, the dataset of ``seeds``."""

    into: Dataset | None
    seeds: Seeds
    held_out: Sequence[Pair]
    guarded: Mapping[str, Sequence[Pair]]

    @property
    def known(self) -> Mapping[str, Sequence[Pair]]:
        return {_shown(self.into): self.seeds.pairs} if self.into else {}


def read_rows(services: Services, owner: str, spec: SynthesisSpec) -> Rows:
    into, seeds = None, Seeds(())
    held_out: Sequence[Pair] = ()
    guarded: dict[str, Sequence[Pair]] = {}
    if spec.dataset_id is not None:
        into, seeds = _dataset(services, owner, spec.dataset_id, "dataset_id")
        if held_out := _held_out(services, owner, into):
            guarded[f"what is held out of {into.name}"] = held_out
    if spec.evaluation_id is not None:
        with services.database.read() as session:
            evaluation = _evaluation(session, owner, spec.evaluation_id)
            asked = _examples(session, evaluation.id)
        guarded[f"the evaluation {spec.evaluation_id}"] = list(asked.values())
    for dataset_id in spec.leakage:
        dataset, pairs = _dataset(services, owner, dataset_id, "leakage")
        guarded[_shown(dataset)] = pairs.pairs
    return Rows(into, seeds, held_out, guarded)


def _shown(dataset: Dataset) -> str:
    return f"{dataset.name} v{dataset.version}"


def _dataset(services: Services, owner: str, dataset_id: str, param: str) -> tuple[Dataset, Seeds]:
    try:
        dataset = get_dataset(database=services.database, owner=owner, dataset_id=dataset_id)
        records = read_records(services.storage.dataset_records(dataset.id))
        return dataset, seeds_of(islice(records, MAX_KNOWN))
    except (NotFound, FileNotFoundError) as error:
        raise InvalidData(
            f"{param} names no dataset of yours: {dataset_id[:80]!r}.", param=param
        ) from error


def _held_out(services: Services, owner: str, dataset: Dataset) -> list[Pair]:
    """The rows of a dataset, in any version, that evaluations ask as held out."""
    versions = select(Dataset.id).where(Dataset.owner == owner, Dataset.name == dataset.name)
    query = select(Evaluation).where(
        Evaluation.owner == owner, col(Evaluation.dataset_id).in_(versions)
    )
    found: dict[str, Pair] = {}
    with services.database.read() as session:
        newest = session.exec(query.order_by(col(Evaluation.created_at).desc()).limit(MAX_LOOKED))
        for evaluation in newest:
            if evaluation.spec.get("held_out_of") and len(found) < MAX_KNOWN:
                asked = _examples(session, evaluation.id).values()
                found |= {pair.prompt: pair for pair in asked}
    return list(found.values())


def _evaluation(session: Session, owner: str, evaluation_id: str) -> Evaluation:
    found = session.get(Evaluation, evaluation_id)
    if found is None or found.owner != owner:
        raise InvalidData(
            f"evaluation_id names no evaluation of yours: {evaluation_id[:80]!r}.",
            param="evaluation_id",
        )
    return found


def _failures(services: Services, owner: str, spec: SynthesisSpec) -> list[Pair]:
    """The examples that the candidate failed."""
    with services.database.read() as session:
        evaluation = _evaluation(session, owner, spec.evaluation_id or "")
        metric, higher_is_better = _metric(evaluation, spec)
        examples = _examples(session, evaluation.id)
        scores = _scores(session, evaluation.id, spec.candidate, metric)
    failed = [
        pair
        for place, pair in examples.items()
        if (score := scores.get(place)) is not None
        and (score < spec.below if higher_is_better else score > spec.below)
    ]
    if not failed:
        than = "below" if higher_is_better else "above"
        raise InvalidData(
            f"below: no example has a {metric} {than} {spec.below:g}: there is nothing to aim at.",
            param="below",
        )
    return failed


def _metric(evaluation: Evaluation, spec: SynthesisSpec) -> tuple[str, bool]:
    """The metric, and whether more of it is better."""
    if evaluation.status != "succeeded" or evaluation.results is None:
        raise InvalidData(
            f"evaluation_id: it is {evaluation.status}; only one that succeeded has scores.",
            param="evaluation_id",
        )
    if spec.candidate >= len(evaluation.candidates):
        raise InvalidData(
            f"candidate: there are {len(evaluation.candidates)}, counted from 0.", param="candidate"
        )
    metrics = {one["name"]: one for one in evaluation.results["metrics"]}
    name = spec.metric or next(iter(metrics))
    if name not in metrics:
        raise InvalidData(
            f"metric: there is no {name!r}; there are {', '.join(metrics)}.", param="metric"
        )
    return name, metrics[name].get("better") != "lower"


def _examples(session: Session, evaluation_id: str) -> dict[int, Pair]:
    """Those of one question, by their place."""
    query = select(EvaluationExample).where(EvaluationExample.evaluation_id == evaluation_id)
    found: dict[int, Pair] = {}
    for example in session.exec(query.order_by(col(EvaluationExample.place))):
        questions = [turn for turn in example.messages if turn["role"] == "user"]
        if len(questions) == 1 and example.targets:
            found[example.place] = Pair(questions[0]["content"], example.targets[0])
    return found


def _scores(
    session: Session, evaluation_id: str, candidate: int, metric: str
) -> dict[int, float | None]:
    query = select(EvaluationAnswer).where(
        EvaluationAnswer.evaluation_id == evaluation_id,
        EvaluationAnswer.candidate == candidate,
    )
    return {answer.place: (answer.scores or {}).get(metric) for answer in session.exec(query)}


def _aims(failures: Sequence[Pair], spec: SynthesisSpec) -> list[Aim]:
    """Each kind of failure, in proportion to how often it is one."""
    # (With it comes numpy.)
    from gateway.synthesis.clusters import cluster

    found = cluster([pair.prompt for pair in failures], count=spec.clusters)
    return [
        Aim(
            tuple(failures[place] for place in one.members),
            label=one.label,
            share=len(one.members) / len(failures),
        )
        for one in found
    ]
