"""Has a judge say how good the answers of running experiments are, where that is their outcome.

Each answer is claimed before it is judged, so that of several gateways one asks; what a gateway
that dies had claimed stays without a verdict.
"""

import asyncio
import logging
from collections.abc import Sequence

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
    """For ever; where the judge or the database is away, later."""
    while True:
        try:
            for experiment in await asyncio.to_thread(_to_judge, services.database):
                await judge_experiment(services, experiment)
        except (GenPlatError, AnswersEnded, SQLAlchemyError) as error:
            log.warning("Answers of an experiment wait for their judge: %s", error)
        await asyncio.sleep(services.settings.experiment_seconds)


def _to_judge(database: Database) -> Sequence[Experiment]:
    with database.read() as session:
        running = session.exec(select(Experiment).where(Experiment.status == "running")).all()
    return [experiment for experiment in running if terms_of(experiment).outcome == "judge"]


async def judge_experiment(services: Services, experiment: Experiment) -> int:
    """How many answers have been judged: all that there were."""
    terms = terms_of(experiment)
    candidate = await asyncio.to_thread(
        resolve, services, experiment.owner, terms.judge or "", param="judge"
    )
    spec = JudgeSpec(model=candidate.name, rubric=terms.rubric)
    judge = Judge(AskedHere(services, experiment.owner, candidate), spec)
    slots, judged = asyncio.Semaphore(AT_ONCE), 0

    async def give(row: LoggedRequest) -> None:
        async with slots:
            score = await judge.worth(_question(row), row.reply or "")
            await asyncio.to_thread(_keep, services.database, row.id, score)

    while rows := await asyncio.to_thread(_claim, services.database, experiment):
        await asyncio.gather(*(give(row) for row in rows))
        judged += len(rows)
    return judged


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


def _found(session: Session, request_id: str) -> LoggedRequest | None:
    """It may have been forgotten meanwhile."""
    return session.get(LoggedRequest, request_id)


def _question(row: LoggedRequest) -> str:
    turns = row.messages or []
    return "\n\n".join(f"{turn['role']}: {turn['content']}" for turn in turns)
