"""Measurements of fallbacks in the database: asked for, claimed, carried out, once a day by itself.

Of several gateways one measures: it claims the report and renews its claim; a report whose claim
is old belongs to a gateway that died, and is begun anew by another.
"""

import asyncio
import logging
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Literal

from pydantic import BaseModel
from sqlalchemy.exc import SQLAlchemyError
from sqlmodel import Session, col, or_, select

from gateway.completion_requests import Request
from gateway.database import Database
from gateway.idempotency import Claim
from gateway.orchestrator.background_asking import (
    Told,
    ask_in_background,
)
from gateway.orchestrator.plans import Target, find_target
from gateway.orchestrator.readiness import Judged, ReadinessFigures, figures_of, judge
from gateway.orchestrator.readiness_prompts import (
    DAY,
    are_there_prompts,
    as_request,
    read_prompts,
)
from gateway.orchestrator.routes import owned_route
from gateway.services import Services
from gateway.tables import ReadinessReport, Route, now
from shared.errors import Conflict, NotFound
from shared.route_labels import label_of

log = logging.getLogger(__name__)

ABANDONED = timedelta(seconds=300)
LOOK_SECONDS = 5.0
# A queue that is full of readers is asked again, so often and so much later.
BUSY_TRIES, BUSY_SECONDS = 5, 2.0

Status = Literal["queued", "running", "done", "failed"]
UNDER_WAY = ("queued", "running")


class ReadinessView(BaseModel):
    """A report as its owner sees it. ``error`` says why there is no score."""

    id: str
    route: str
    fallback: str
    status: Status
    score: float | None
    figures: ReadinessFigures | None
    error: str | None
    created_at: datetime
    ended_at: datetime | None


def view_of(report: ReadinessReport) -> ReadinessView:
    return ReadinessView.model_validate(report.model_dump(exclude={"owner", "claimed_at"}))


def ask_for_report(
    *, database: Database, owner: str, name: str, claim: Claim | None = None
) -> ReadinessReport:
    """Have the route's first fallback measured soon; the report under way, if there is one."""
    with database.write() as session:
        route = owned_route(session, owner, name, to_change=True)
        if not route.fallbacks:
            raise Conflict(f"{name!r} has no fallback to measure.", code="no_fallback")
        report = _latest(session, name)
        if report is None or report.status not in UNDER_WAY:
            report = _new(session, route)
        if claim is not None:
            claim.attach(session, report.id)
    return report


def _new(session: Session, route: Route) -> ReadinessReport:
    report = ReadinessReport(
        owner=route.owner, route=route.name, fallback=label_of(route.fallbacks[0])
    )
    session.add(report)
    session.flush()
    return report


def get_report(*, database: Database, owner: str, name: str) -> ReadinessReport:
    """The newest."""
    found = find_report(database=database, owner=owner, name=name)
    if found is None:
        raise NotFound(
            f"The fallback of {name!r} was not measured yet.",
            code="readiness_not_found",
            param="name",
        )
    return found


def find_report(*, database: Database, owner: str, name: str) -> ReadinessReport | None:
    with database.read() as session:
        owned_route(session, owner, name)
        return _latest(session, name)


def report_by_id(*, database: Database, owner: str, report_id: str) -> ReadinessReport:
    with database.read() as session:
        found = session.get(ReadinessReport, report_id)
    if found is None or found.owner != owner:
        raise NotFound("This report is gone.", code="readiness_not_found")
    return found


def _latest(session: Session, name: str) -> ReadinessReport | None:
    return session.exec(
        select(ReadinessReport)
        .where(ReadinessReport.route == name)
        .order_by(col(ReadinessReport.created_at).desc(), col(ReadinessReport.id).desc())
    ).first()


async def run_readiness(services: Services) -> None:
    """For ever: what was asked for, and each route with a fallback once a day."""
    while True:
        try:
            await asyncio.to_thread(
                ask_daily, services.database, services.settings.readiness_prompts
            )
            while (report := await asyncio.to_thread(claim_report, services.database)) is not None:
                await _measure_or_fail(services, report)
        except SQLAlchemyError as error:
            log.warning("Measurements of fallbacks wait: %s", error)
        await asyncio.sleep(LOOK_SECONDS)


async def _measure_or_fail(services: Services, report: ReadinessReport) -> None:
    """What goes wrong in an unforeseen way would go wrong again, and each try asks anew."""
    try:
        await measure(services, report)
    except SQLAlchemyError:
        raise
    except Exception:
        log.exception("The readiness of %s could not be measured.", report.route)
        failure = "It could not be measured; the gateway's log says why."
        await asyncio.to_thread(_fail, services.database, report, failure)


def ask_daily(database: Database, prompts: int) -> None:
    """A report for each route with a first fallback that was not measured in the last day, where
    something was asked then; none where ``prompts`` is 0."""
    if prompts == 0:
        return
    with database.read() as session:
        due = [route.name for route in session.exec(select(Route)) if _is_due(session, route)]
    for name in due:
        with database.write() as session:
            route = session.get(Route, name, with_for_update=True)
            if route is not None and _is_due(session, route):
                _new(session, route)


def _is_due(session: Session, route: Route) -> bool:
    if not route.fallbacks:
        return False
    latest = _latest(session, route.name)
    fallback = label_of(route.fallbacks[0])
    if latest is None or latest.created_at <= now() - DAY:
        is_measured = False
    else:
        # A score is that of the fallback which was the first one then.
        is_measured = latest.status in UNDER_WAY or latest.fallback == fallback
    return not is_measured and are_there_prompts(session, route.name, fallback)


def claim_report(database: Database) -> ReadinessReport | None:
    """One to measure, if there is any; the claim is its token."""
    claimed_at = col(ReadinessReport.claimed_at)
    with database.write() as session:
        report = session.exec(
            select(ReadinessReport)
            .where(
                col(ReadinessReport.status).in_(UNDER_WAY),
                or_(claimed_at.is_(None), claimed_at < now() - ABANDONED),
            )
            .order_by(col(ReadinessReport.created_at))
            .with_for_update(skip_locked=True)
        ).first()
        if report is not None:
            report.status, report.claimed_at = "running", now()
            session.add(report)
    return report


async def measure(services: Services, report: ReadinessReport) -> None:
    """Ask the fallback a sample of the last day's prompts, and note what came of it."""
    database = services.database
    rows = await asyncio.to_thread(
        read_prompts, database, report, services.settings.readiness_prompts or 30
    )
    target = await asyncio.to_thread(
        find_target,
        database=database,
        owner=report.owner,
        label=report.fallback,
        upstreams=services.upstreams.upstreams,
    )
    judged: list[Judged] = []
    for row in rows:
        request = as_request(row)
        if request is None:
            continue
        told = await _ask_patiently(services, target, request, report.route)
        judged.append(await asyncio.to_thread(judge, row, told))
        if not await asyncio.to_thread(_renew, database, report):
            return
    await asyncio.to_thread(_finish, database, report, judged)


async def _ask_patiently(services: Services, target: Target, request: Request, route: str) -> Told:
    for _ in range(BUSY_TRIES - 1):
        told = await ask_in_background(
            services=services, target=target, request=request, name=route
        )
        if told.status != 429:
            return told
        await asyncio.sleep(BUSY_SECONDS)
    return await ask_in_background(services=services, target=target, request=request, name=route)


def _renew(database: Database, report: ReadinessReport) -> bool:
    """Whether the report is still this gateway's."""
    with database.write() as session:
        stored = _claimed(session, report)
        if stored is None:
            return False
        stored.claimed_at = report.claimed_at = now()
        session.add(stored)
    return True


def _claimed(session: Session, report: ReadinessReport) -> ReadinessReport | None:
    stored = session.get(ReadinessReport, report.id, with_for_update=True)
    return stored if stored is not None and stored.claimed_at == report.claimed_at else None


def _finish(database: Database, report: ReadinessReport, judged: Sequence[Judged]) -> None:
    if not judged:
        nothing = (
            "There is no prompt of the last 24 hours that was answered, is kept with its texts in "
            "the request log, and can be asked of the fallback."
        )
        _fail(database, report, nothing)
        return
    figures = figures_of(judged)
    with database.write() as session:
        stored = _claimed(session, report)
        if stored is not None:
            stored.status, stored.ended_at, stored.score = "done", now(), figures.score
            stored.figures = figures.model_dump(mode="json")
            session.add(stored)


def _fail(database: Database, report: ReadinessReport, error: str) -> None:
    with database.write() as session:
        stored = _claimed(session, report)
        if stored is not None:
            stored.status, stored.ended_at, stored.error = "failed", now(), error
            session.add(stored)
