"""Syntheses as their owners see them: made, read, listed, cancelled, deleted. Knows no HTTP."""

import asyncio
from datetime import datetime
from typing import Any

from pydantic import BaseModel
from sqlalchemy import func
from sqlmodel import Session, col, select

from gateway.database import Database
from gateway.evaluations.candidates import resolve
from gateway.idempotency import Claim
from gateway.paging import DEFAULT_LIMIT, Page, paginate
from gateway.services import Services
from gateway.synthesis.sources import read_sources
from gateway.synthesis.spec import SynthesisSpec
from gateway.tables import Synthesis, SynthesisRow, now
from shared.errors import Conflict, NotFound

TERMINAL = ("succeeded", "failed", "cancelled")


class SynthesisError(BaseModel):
    code: str
    message: str


class SynthesisView(BaseModel):
    """``kept`` rows came through all filters; ``reviewed`` of them were accepted, edited or
    rejected. ``reasons``: how many rows were dropped for what. ``result_id``: the dataset."""

    id: str
    object: str = "synthesis"
    name: str
    status: str
    dataset_id: str | None
    evaluation_id: str | None
    aims: list[dict[str, Any]]
    wanted: int
    kept: int
    dropped: int
    requests: int
    reviewed: int
    accepted: int
    reasons: dict[str, int]
    prompt_tokens: int
    completion_tokens: int
    warnings: list[str]
    error: SynthesisError | None
    result_id: str | None
    spec: dict[str, Any]
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None

    @property
    def is_terminal(self) -> bool:
        return self.status in TERMINAL


async def create_synthesis(
    *, services: Services, owner: str, spec: SynthesisSpec, claim: Claim | None = None
) -> SynthesisView:
    """Check and store it; a gateway works on it from then on."""
    view = await asyncio.to_thread(_create, services, owner, spec, claim)
    services.synthesis_wanted.set()
    return view


def _create(
    services: Services, owner: str, spec: SynthesisSpec, claim: Claim | None
) -> SynthesisView:
    resolve(services, owner, spec.model, param="model")
    if spec.judge is not None:
        resolve(services, owner, spec.judge, param="judge")
    sources = read_sources(services, owner, spec)
    into = sources.into.name if sources.into else f"Synthetic for {spec.evaluation_id}"
    aims = [
        {"label": aim.label, "examples": len(aim.pairs), "share": round(aim.share, 4)}
        for aim in sources.plan.aims
    ]
    synthesis = Synthesis(
        owner=owner,
        name=spec.name.strip() or into,
        spec=spec.model_dump(mode="json"),
        dataset_id=spec.dataset_id,
        evaluation_id=spec.evaluation_id,
        aims=aims if spec.evaluation_id else [],
        warnings=sources.warnings,
    )
    with services.database.write() as session:
        session.add(synthesis)
        session.flush()
        if claim is not None:
            claim.attach(session, synthesis.id)
        return view_of(session, synthesis)


def view_of(session: Session, synthesis: Synthesis) -> SynthesisView:
    query = (
        select(SynthesisRow.status, SynthesisRow.reason, func.count())
        .where(SynthesisRow.synthesis_id == synthesis.id)
        .group_by(col(SynthesisRow.status), col(SynthesisRow.reason))
    )
    counts = [(status, reason, count) for status, reason, count in session.exec(query)]
    by = {
        name: sum(count for status, _, count in counts if status == name)
        for name in ("accepted", "edited", "rejected")
    }
    reasons = {str(reason): count for status, reason, count in counts if status == "dropped"}
    error = None
    if synthesis.error_code is not None:
        error = SynthesisError(code=synthesis.error_code, message=synthesis.error_message or "")
    return SynthesisView(
        **synthesis.model_dump(exclude={"owner", "object"}),
        wanted=synthesis.spec["count"],
        reviewed=sum(by.values()),
        accepted=by["accepted"] + by["edited"],
        reasons=dict(sorted(reasons.items())),
        error=error,
    )


def owned(session: Session, owner: str, synthesis_id: str, *, update: bool = False) -> Synthesis:
    found = session.get(Synthesis, synthesis_id, with_for_update=update)
    if found is None or found.owner != owner:
        raise NotFound(f"There is no synthesis {synthesis_id[:80]!r}.", param="synthesis_id")
    return found


def get_synthesis(*, database: Database, owner: str, synthesis_id: str) -> SynthesisView:
    with database.read() as session:
        return view_of(session, owned(session, owner, synthesis_id))


def list_syntheses(
    *, database: Database, owner: str, after: str | None = None, limit: int = DEFAULT_LIMIT
) -> Page[SynthesisView]:
    """Newest first."""
    with database.read() as session:
        page = paginate(
            session=session,
            query=select(Synthesis).where(Synthesis.owner == owner),
            table=Synthesis,
            key=Synthesis.id,
            after=after,
            limit=limit,
        )
        return Page([view_of(session, found) for found in page.data], page.has_more)


def cancel_synthesis(*, database: Database, owner: str, synthesis_id: str) -> SynthesisView:
    """The rows stay readable; whoever works on it notices at the next one."""
    with database.write() as session:
        found = owned(session, owner, synthesis_id, update=True)
        if found.status in TERMINAL and found.status != "cancelled":
            raise Conflict(f"The synthesis has {found.status} already.", code="already_ended")
        if found.status != "cancelled":
            found.status, found.finished_at = "cancelled", now()
            found.holder = found.held_until = None
            session.add(found)
        return view_of(session, found)


def delete_synthesis(*, database: Database, owner: str, synthesis_id: str) -> None:
    """A dataset that was made of it stays."""
    with database.write() as session:
        found = owned(session, owner, synthesis_id, update=True)
        if found.status in ("queued", "running"):
            raise Conflict(f"The synthesis is {found.status}. Cancel it before you delete it.")
        session.delete(found)
