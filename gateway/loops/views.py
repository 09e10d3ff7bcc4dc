"""Loops as their owners see them: made, read, listed, cancelled, deleted. Knows no HTTP."""

from datetime import datetime
from typing import Any

from pydantic import BaseModel
from sqlmodel import Session, select

from gateway.database import Database
from gateway.idempotency import Claim
from gateway.loops.checking import check_names, check_what_is_repeated
from gateway.loops.spec import LoopSpec
from gateway.paging import DEFAULT_LIMIT, Page, paginate
from gateway.services import Services
from gateway.tables import Evaluation, Loop, now
from shared.errors import Conflict, NotFound


class LoopError(BaseModel):
    code: str
    message: str


class LoopView(BaseModel):
    """``stage``: training, evaluating, deploying, promoting or done. ``warnings`` are those of its
    evaluation: such as that rows were asked which the new model was trained on."""

    id: str
    object: str = "loop"
    status: str
    stage: str
    run_id: str | None
    evaluation_id: str | None
    deployment: str | None
    verdicts: list[dict[str, Any]] | None
    warnings: list[str]
    error: LoopError | None
    spec: dict[str, Any]
    created_at: datetime
    finished_at: datetime | None


def view_of(session: Session, loop: Loop) -> LoopView:
    error = None
    if loop.error_code is not None:
        error = LoopError(code=loop.error_code, message=loop.error_message or "")
    evaluation = session.get(Evaluation, loop.evaluation_id) if loop.evaluation_id else None
    return LoopView(
        error=error,
        warnings=evaluation.warnings if evaluation is not None else [],
        **loop.model_dump(exclude={"owner", "object"}),
    )


def create_loop(
    *, services: Services, owner: str, spec: LoopSpec, claim: Claim | None = None
) -> LoopView:
    """Check what can be known and store it; a gateway goes through its stages from then on."""
    check_what_is_repeated(services, owner, spec)
    loop = Loop(owner=owner, spec=spec.model_dump(mode="json"))
    with services.database.write() as session:
        check_names(session, owner, spec)
        session.add(loop)
        session.flush()
        if claim is not None:
            claim.attach(session, loop.id)
        view = view_of(session, loop)
    services.loop_wanted.set()
    return view


def owned(session: Session, owner: str, loop_id: str, *, update: bool = False) -> Loop:
    found = session.get(Loop, loop_id, with_for_update=update)
    if found is None or found.owner != owner:
        raise NotFound(f"There is no loop {loop_id[:80]!r}.", param="loop_id")
    return found


def get_loop(*, database: Database, owner: str, loop_id: str) -> LoopView:
    with database.read() as session:
        return view_of(session, owned(session, owner, loop_id))


def list_loops(
    *, database: Database, owner: str, after: str | None = None, limit: int = DEFAULT_LIMIT
) -> Page[LoopView]:
    """Newest first."""
    with database.read() as session:
        page = paginate(
            session=session,
            query=select(Loop).where(Loop.owner == owner),
            table=Loop,
            key=Loop.id,
            after=after,
            limit=limit,
        )
        return Page([view_of(session, found) for found in page.data], page.has_more)


def cancel_loop(*, database: Database, owner: str, loop_id: str) -> LoopView:
    """No further stage begins. The run or evaluation that it started goes on by itself."""
    with database.write() as session:
        found = owned(session, owner, loop_id, update=True)
        if found.status in ("succeeded", "failed"):
            raise Conflict(f"The loop has {found.status} already.", code="already_ended")
        if found.status == "running":
            found.status, found.finished_at = "cancelled", now()
            session.add(found)
        return view_of(session, found)


def delete_loop(*, database: Database, owner: str, loop_id: str) -> None:
    """What it made stays."""
    with database.write() as session:
        found = owned(session, owner, loop_id, update=True)
        if found.status == "running":
            raise Conflict("The loop is running. Cancel it before you delete it.")
        session.delete(found)
