"""Has a judge say how good the answers of running experiments are, where that is their outcome.

Each answer is claimed before it is judged, so that of several gateways one asks; what a gateway
that dies had claimed stays without a verdict.
"""

import asyncio
import logging
from collections.abc import Collection, Sequence

from sqlalchemy.exc import SQLAlchemyError
from sqlmodel import Session, and_, col, or_, select

from gateway.answering import AnswersEnded
from gateway.database import Database
from gateway.evaluations.asked_here import AskedHere
from gateway.evaluations.candidates import resolve
from gateway.evaluations.judge import Judge
from gateway.evaluations.spec import JudgeSpec
from gateway.orchestrator.experiments.store import terms_of
from gateway.services import Services
from gateway.tables import Experiment, LoggedRequest, now
from shared.errors import GenPlatError

log = logging.getLogger(__name__)

AT_ONCE = 4
CLAIMED_AT_ONCE = 16


async def run_judges(services: Services) -> None:
    """For ever; where a judge or the database is away, later. Each experiment has its turn, so that
    one with many answers, or with a slow judge, does not keep all others waiting for long."""
    while True:
        judged = 0
        try:
            for experiment in await asyncio.to_thread(_to_judge, services.database):
                judged += await _judge_if_possible(services, experiment)
        except SQLAlchemyError as error:
            log.warning("Answers of experiments wait for their judges: %s", error)
        if judged == 0:
            await asyncio.sleep(services.settings.experiment_seconds)


def _to_judge(database: Database) -> Sequence[Experiment]:
    with database.read() as session:
        running = session.exec(select(Experiment).where(Experiment.status == "running")).all()
    return [experiment for experiment in running if terms_of(experiment).outcome == "judge"]


async def _judge_if_possible(services: Services, experiment: Experiment) -> int:
    try:
        return await judge_some(services, experiment)
    except (GenPlatError, AnswersEnded) as error:
        log.warning("Answers on %s wait for their judge: %s", experiment.route, error)
        return 0


async def judge_some(services: Services, experiment: Experiment) -> int:
    """How many answers have been judged; 0 where there are no more. Those that the judge could not
    be asked about are given back."""
    terms, database = terms_of(experiment), services.database
    candidate = await asyncio.to_thread(
        resolve, services, experiment.owner, terms.judge or "", param="judge"
    )
    spec = JudgeSpec(model=candidate.name, rubric=terms.rubric)
    judge = Judge(AskedHere(services, experiment.owner, candidate), spec)
    rows = await asyncio.to_thread(_claim, database, experiment)
    slots, unjudged = asyncio.Semaphore(AT_ONCE), {row.id for row in rows}

    async def give(row: LoggedRequest) -> None:
        async with slots:
            score = await judge.worth(_question(row), row.reply or "")
            await asyncio.to_thread(_keep, database, row.id, score)
            unjudged.discard(row.id)

    try:
        async with asyncio.TaskGroup() as group:
            for row in rows:
                group.create_task(give(row))
    except ExceptionGroup as errors:
        raise errors.exceptions[0] from errors
    finally:
        if unjudged:
            await asyncio.to_thread(_give_back, database, unjudged)
    return len(rows)


def _claim(database: Database, experiment: Experiment) -> Sequence[LoggedRequest]:
    """Some answers of both arms, given by whom they were drawn for; and those of a shadow."""
    row = LoggedRequest
    arms = (experiment.control, experiment.treatment)
    live = and_(col(row.shadow_of).is_(None), col(row.drawn).in_(arms), row.drawn == row.served_by)
    shadow = and_(col(row.shadow_of).is_not(None), col(row.served_by).in_(arms))
    query = (
        select(row)
        .where(
            row.owner == experiment.owner,
            row.route == experiment.route,
            row.created_at >= experiment.created_at,
            row.status == 200,
            col(row.judged_at).is_(None),
            col(row.reply).is_not(None),
            or_(live, shadow),
        )
        .order_by(col(row.created_at))
        .limit(CLAIMED_AT_ONCE)
        .with_for_update(skip_locked=True)
    )
    with database.write_unnoticed() as session:
        found = session.exec(query).all()
        for one in found:
            one.judged_at = now()
            session.add(one)
    return found


def _keep(database: Database, request_id: str, score: float | None) -> None:
    with database.write_unnoticed() as session:
        row = _found(session, request_id)
        if row is not None:
            row.judge_score, row.judged_at = score, now()
            session.add(row)


def _give_back(database: Database, request_ids: Collection[str]) -> None:
    with database.write_unnoticed() as session:
        for request_id in request_ids:
            row = _found(session, request_id)
            if row is not None and row.judge_score is None:
                row.judged_at = None
                session.add(row)


def _found(session: Session, request_id: str) -> LoggedRequest | None:
    """It may have been forgotten meanwhile."""
    return session.get(LoggedRequest, request_id)


def _question(row: LoggedRequest) -> str:
    turns = row.messages or []
    return "\n\n".join(f"{turn['role']}: {turn['content']}" for turn in turns)
