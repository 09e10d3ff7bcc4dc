"""Where a synthesis begins: the rows of a dataset, the failures of an evaluation, and the rows that
must not come out again."""

from collections.abc import Sequence
from dataclasses import dataclass, field

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

# Sameness is looked for among so many rows of a dataset.
MAX_KNOWN = 50_000
MAX_SEEDS = 5000


@dataclass(frozen=True)
class Sources:
    """What a spec names, read. ``into``: the dataset that the new rows go to, if any; ``system``:
    the system message that they get."""

    plan: Plan
    into: Dataset | None
    system: str
    warnings: list[str] = field(default_factory=list)


def read_sources(services: Services, owner: str, spec: SynthesisSpec) -> Sources:
    """`InvalidData`, naming the field, where something is not there or is of no use."""
    warnings: list[str] = []
    into, seeds = None, Seeds(())
    if spec.dataset_id is not None:
        into, seeds = _dataset(services, owner, spec.dataset_id, "dataset_id")
        if seeds.left_out:
            warnings.append(
                f"{seeds.left_out:,} rows of {into.name} hold several turns: they are no examples."
            )
    guarded: dict[str, Sequence[Pair]] = {}
    aims = [Aim(seeds.pairs[:MAX_SEEDS])]
    if spec.evaluation_id is not None:
        examples, failures = _failures(services, owner, spec)
        guarded[f"the evaluation {spec.evaluation_id}"] = examples
        aims = _aims(failures, spec)
    elif not seeds.pairs:
        raise InvalidData(
            "dataset_id: the dataset holds no rows of one question and its answer.",
            param="dataset_id",
        )
    for dataset_id in spec.leakage:
        dataset, known = _dataset(services, owner, dataset_id, "leakage")
        guarded[_shown(dataset)] = known.pairs[:MAX_KNOWN]
    seeds_by = {_shown(into): seeds.pairs[:MAX_KNOWN]} if into else {}
    plan = Plan(spec, aims, seeds_by, guarded)
    return Sources(plan, into, seeds.system, warnings)


def _shown(dataset: Dataset) -> str:
    return f"{dataset.name} v{dataset.version}"


def _dataset(services: Services, owner: str, dataset_id: str, param: str) -> tuple[Dataset, Seeds]:
    try:
        dataset = get_dataset(database=services.database, owner=owner, dataset_id=dataset_id)
        records = read_records(services.storage.dataset_records(dataset.id))
        return dataset, seeds_of(records)
    except (NotFound, FileNotFoundError) as error:
        raise InvalidData(
            f"{param} names no dataset of yours: {dataset_id[:80]!r}.", param=param
        ) from error


def _failures(services: Services, owner: str, spec: SynthesisSpec) -> tuple[list[Pair], list[Pair]]:
    """All examples of the evaluation, and those that the candidate failed."""
    with services.database.read() as session:
        evaluation = session.get(Evaluation, spec.evaluation_id)
        if evaluation is None or evaluation.owner != owner:
            raise InvalidData(
                f"evaluation_id names no evaluation of yours: {str(spec.evaluation_id)[:80]!r}.",
                param="evaluation_id",
            )
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
    return list(examples.values()), failed


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
