"""Works on evaluations, one after the other, as long as the gateway runs. What was answered is
stored at once: after a stop, here or anywhere, the rest is asked, and nothing twice."""

import asyncio
from dataclasses import asdict
from functools import partial

from gateway.durable_work import Worker
from gateway.evaluations.asked_here import AskedHere
from gateway.evaluations.asking import ask
from gateway.evaluations.candidates import resolve
from gateway.evaluations.judge import Judge
from gateway.evaluations.recording import EVALUATIONS, enter, store, store_verdicts, succeed
from gateway.evaluations.scoring import score_apart
from gateway.evaluations.spec import JudgeSpec
from gateway.evaluations.stored import Work, completed, read_work
from gateway.leases import Lease
from gateway.services import Services
from gateway.tables import Evaluation, EvaluationAnswer
from shared.tasks import each


async def run_evaluations(services: Services) -> None:
    """For ever; evaluations of a gateway that died are found by looking now and then."""
    settings = services.settings
    await Worker(
        services.database,
        EVALUATIONS,
        work=partial(_work, services),
        wanted=services.evaluation_wanted,
        lease_seconds=settings.evaluation_lease_seconds,
        look_seconds=settings.reconcile_seconds,
    ).run()


async def _work(services: Services, lease: Lease[Evaluation]) -> None:
    await _answer_rest(services, lease)
    work = await asyncio.to_thread(read_work, lease)
    if work.spec.judge is not None:
        await asyncio.to_thread(enter, lease, "judging")
        await _judge_rest(services, lease, work, work.spec.judge)
        work = await asyncio.to_thread(read_work, lease)
    await asyncio.to_thread(enter, lease, "scoring")
    results, scores = await score_apart(work)
    results = completed(results, work, services.upstreams.upstreams)
    await asyncio.to_thread(succeed, lease, results, scores)


async def _answer_rest(services: Services, lease: Lease[Evaluation]) -> None:
    """One candidate after the other: no two models have to be in memory at once."""
    await asyncio.to_thread(enter, lease, "answering")
    work = await asyncio.to_thread(read_work, lease)
    for number, candidate in enumerate(work.candidates):
        asker = AskedHere(services, work.owner, candidate)

        async def answer(place: int, number: int = number, asker: AskedHere = asker) -> None:
            example = work.examples[place]
            reply = await ask(
                asker,
                messages=example.messages,
                references=example.targets,
                sampling=work.sampling(),
                metrics=work.metrics,
            )
            row = EvaluationAnswer(
                evaluation_id=lease.id, candidate=number, place=place, **asdict(reply)
            )
            await asyncio.to_thread(store, lease, row)

        at_once = services.settings.evaluation_requests
        await each(work.unanswered(number), answer, at_once=at_once)


async def _judge_rest(
    services: Services, lease: Lease[Evaluation], work: Work, spec: JudgeSpec
) -> None:
    candidate = await asyncio.to_thread(
        resolve, services, work.owner, spec.model, param="judge.model"
    )
    judge = Judge(AskedHere(services, work.owner, candidate), spec, seed=work.spec.seed)

    async def judge_one(place: tuple[int, int]) -> None:
        verdicts = await judge.verdicts(work.judged(*place))
        await asyncio.to_thread(store_verdicts, lease, *place, verdicts)

    await each(work.unjudged(), judge_one, at_once=services.settings.evaluation_requests)
