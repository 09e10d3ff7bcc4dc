"""Works on evaluations, one after the other, as long as the gateway runs. What was answered is
stored at once: after a stop, here or anywhere, the rest is asked, and nothing twice."""

import asyncio
import contextlib
import logging
import secrets
from dataclasses import asdict

from sqlalchemy.exc import SQLAlchemyError

from gateway.answering import AnswersEnded
from gateway.evaluations.asked_here import AskedHere
from gateway.evaluations.asking import ask
from gateway.evaluations.candidates import resolve
from gateway.evaluations.judge import Judge
from gateway.evaluations.leases import Lease, LeaseLost, claim_next
from gateway.evaluations.scoring import score_apart
from gateway.evaluations.spec import JudgeSpec
from gateway.evaluations.stored import Work, completed, read_work
from gateway.services import Services
from gateway.tables import EvaluationAnswer
from shared.errors import GenPlatError
from shared.tasks import cancel_until_done, each

log = logging.getLogger(__name__)


async def run_evaluations(services: Services) -> None:
    """For ever; evaluations of a gateway that died are found by looking now and then."""
    holder = secrets.token_hex(8)
    settings = services.settings
    while True:
        services.evaluation_wanted.clear()
        lease = await asyncio.to_thread(
            claim_next,
            services.database,
            holder=holder,
            seconds=settings.evaluation_lease_seconds,
        )
        if lease is not None:
            await work_on(services, lease)
            continue
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(settings.reconcile_seconds):
                await services.evaluation_wanted.wait()


async def work_on(services: Services, lease: Lease) -> None:
    """Bring one evaluation to its end, unless somebody takes it away."""
    work = asyncio.create_task(_work(services, lease))
    renewing = asyncio.create_task(_renewed(lease))
    try:
        await asyncio.wait({work, renewing}, return_when=asyncio.FIRST_COMPLETED)
        if not work.done():
            log.info("The evaluation %s was cancelled, or is somebody else's.", lease.evaluation_id)
    finally:
        await cancel_until_done([work, renewing])
        # (Nothing to release where it has ended.)
        with contextlib.suppress(LeaseLost, SQLAlchemyError):
            await asyncio.to_thread(lease.release)
    if work.done() and not work.cancelled():
        work.result()


async def _renewed(lease: Lease) -> None:
    """Until it is lost."""
    while True:
        await asyncio.sleep(lease.seconds / 6)
        try:
            await asyncio.to_thread(lease.renew)
        except LeaseLost:
            return
        except SQLAlchemyError as error:
            log.warning("A lease could not be renewed yet: %s", type(error).__name__)


async def _work(services: Services, lease: Lease) -> None:
    try:
        await _answer_rest(services, lease)
        work = await asyncio.to_thread(read_work, lease)
        if work.spec.judge is not None:
            await asyncio.to_thread(lease.enter, "judging")
            await _judge_rest(services, lease, work, work.spec.judge)
            work = await asyncio.to_thread(read_work, lease)
        await asyncio.to_thread(lease.enter, "scoring")
        results, scores = await score_apart(work)
        results = completed(results, work, services.upstreams.upstreams)
        await asyncio.to_thread(lease.succeed, results, scores)
    except LeaseLost:
        return
    except AnswersEnded as error:
        await _fail(lease, "answers_ended", str(error))
    except GenPlatError as error:
        await _fail(lease, error.code, error.message)


async def _fail(lease: Lease, code: str, message: str) -> None:
    with contextlib.suppress(LeaseLost):
        await asyncio.to_thread(lease.fail, code, message)


async def _answer_rest(services: Services, lease: Lease) -> None:
    """One candidate after the other: no two models have to be in memory at once."""
    await asyncio.to_thread(lease.enter, "answering")
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
                evaluation_id=lease.evaluation_id, candidate=number, place=place, **asdict(reply)
            )
            await asyncio.to_thread(lease.store, row)

        at_once = services.settings.evaluation_requests
        await each(work.unanswered(number), answer, at_once=at_once)


async def _judge_rest(services: Services, lease: Lease, work: Work, spec: JudgeSpec) -> None:
    candidate = await asyncio.to_thread(
        resolve, services, work.owner, spec.model, param="judge.model"
    )
    judge = Judge(AskedHere(services, work.owner, candidate), spec, seed=work.spec.seed)

    async def judge_one(place: tuple[int, int]) -> None:
        verdicts = await judge.verdicts(work.judged(*place))
        await asyncio.to_thread(lease.store_verdicts, *place, verdicts)

    await each(work.unjudged(), judge_one, at_once=services.settings.evaluation_requests)
