"""Looks at the running experiments every so often, decides, and carries out what was decided.

Each look is claimed in the database: of several gateways one reads the log, and only the one that
holds the claim may write what it found.
"""

import asyncio
import logging
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy.exc import SQLAlchemyError
from sqlmodel import Session, col, or_, select

from gateway.database import Database
from gateway.orchestrator.experiments.arms import Arms, columns, read_alone, read_arms
from gateway.orchestrator.experiments.decisions import Standing, decide, stand
from gateway.orchestrator.experiments.migration import step_before, step_ended
from gateway.orchestrator.experiments.spec import Mode
from gateway.orchestrator.experiments.store import (
    Look,
    carry_out,
    mode_of,
    terms_of,
)
from gateway.services import Services
from gateway.tables import Experiment, LoggedRequest, Route, now

log = logging.getLogger(__name__)

# So many requests of its route an experiment can count.
MOST_ROWS = 500_000
MOST_LOOKS = 200
# Looking takes no more of the time than this.
BUSY_PART = 0.05


async def run_experiments(services: Services) -> None:
    """For ever; a database that is away is asked again."""
    period = timedelta(seconds=services.settings.experiment_seconds)
    while True:
        began = time.monotonic()
        try:
            await asyncio.to_thread(look_at_all, services.database, period)
        except SQLAlchemyError as error:
            log.warning("Experiments wait: %s", error)
        took = time.monotonic() - began
        await asyncio.sleep(max(period.total_seconds(), took / BUSY_PART))


def look_at_all(database: Database, period: timedelta) -> None:
    """Look at each running experiment that nobody has looked at within half a ``period``."""
    with database.read() as session:
        due = session.exec(select(Experiment.id).where(*_is_due(now() - period / 2))).all()
    for experiment_id in due:
        try:
            look_at(database, experiment_id, since=now() - period / 2)
        except SQLAlchemyError:
            raise
        except Exception:
            # Its trouble keeps no other one from being looked at.
            log.exception("The experiment %s could not be looked at.", experiment_id)


def _is_due(since: datetime) -> tuple[Any, ...]:
    looked_at = col(Experiment.looked_at)
    return Experiment.status == "running", or_(looked_at.is_(None), looked_at <= since)


def look_at(database: Database, experiment_id: str, *, since: datetime) -> None:
    claimed = _claim(database, experiment_id, since)
    if claimed is None:
        return
    standing = read_standing(database, claimed)
    decision = decide(
        standing=standing,
        terms=terms_of(claimed),
        began=claimed.created_at,
        mode=mode_of(claimed),
    )
    with database.write() as session:
        # The route first, as hands take them that stop or pause: else they could wait for us, and
        # we for them.
        session.get(Route, claimed.route, with_for_update=True)
        experiment = session.get(Experiment, experiment_id, with_for_update=True)
        if (
            experiment is None
            or experiment.status != "running"
            or experiment.looked_at != claimed.looked_at
        ):
            return
        _note(experiment, standing)
        session.add(experiment)
        if decision.status != "running":
            log.info("Experiment on %s: %s", experiment.route, decision.why)
            carry_out(session, experiment, decision)
            step_ended(session, experiment)


def _claim(database: Database, experiment_id: str, since: datetime) -> Experiment | None:
    with database.write() as session:
        found = session.exec(
            select(Experiment)
            .where(Experiment.id == experiment_id, *_is_due(since))
            .with_for_update()
        ).first()
        if found is not None:
            found.looked_at = now()
            session.add(found)
    return found


def read_standing(database: Database, experiment: Experiment) -> Standing:
    """The figures as the log has them now."""
    terms, at, mode = terms_of(experiment), now(), mode_of(experiment)
    with database.read() as session:
        rows = _rows(session, experiment)
        earlier = _rows(session, before) if (before := step_before(session, experiment)) else []
    arms = _read(rows, experiment, mode)
    if mode == "alone":
        arms = read_alone(_read(earlier, experiment, "live"), arms)
    last = Standing.model_validate(experiment.standing) if experiment.standing else None
    return stand(
        arms=arms,
        terms=terms,
        share=experiment.spec["share"],
        at=at,
        began=experiment.created_at,
        before=last,
        is_full=len(rows) >= MOST_ROWS,
    )


def _read(rows: Sequence[Any], experiment: Experiment, mode: Mode) -> Arms:
    return read_arms(
        rows,
        control=experiment.control,
        treatment=experiment.treatment,
        terms=terms_of(experiment),
        mode=mode,
    )


def _rows(session: Session, experiment: Experiment) -> Sequence[Any]:
    """What was asked while the experiment ran."""
    created_at = col(LoggedRequest.created_at)
    return session.execute(
        select(*columns(LoggedRequest))
        .where(
            LoggedRequest.owner == experiment.owner,
            LoggedRequest.route == experiment.route,
            created_at >= experiment.created_at,
            created_at < (experiment.ended_at or datetime.max.replace(tzinfo=UTC)),
        )
        .order_by(created_at, col(LoggedRequest.id))
        .limit(MOST_ROWS)
    ).all()


def _note(experiment: Experiment, standing: Standing) -> None:
    experiment.standing = standing.model_dump(mode="json")
    look = Look.model_validate(standing.model_dump(include=set(Look.model_fields)))
    looks = [*experiment.looks, look.model_dump(mode="json")]
    if looks[-2:-1] and looks[-2]["units"] == look.units:
        # Nothing has come since: the plot needs no second point for it.
        looks = looks[:-1]
    if len(looks) > MOST_LOOKS:
        # Every other one of the older half goes.
        half = MOST_LOOKS // 2
        looks = looks[:half:2] + looks[half:]
    experiment.looks = looks
