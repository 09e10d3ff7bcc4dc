"""The rows of a synthesis, looked at one by one and in a table."""

import html
from typing import Annotated, Any

from fastapi import APIRouter, Form, Path, Query
from fastapi.responses import Response
from pydantic import ValidationError
from starlette.concurrency import run_in_threadpool

from gateway.api.diagrams import SVG_POLICY
from gateway.deps import PageOwnerDep, ServicesDep
from gateway.evaluations.metrics.texts import diagram_in
from gateway.pages.html import UNPROCESSABLE, page, see_other
from gateway.services import Services
from gateway.synthesis import reviewing, views
from gateway.synthesis.filtering import REASONS
from gateway.synthesis.reviewing import MAX_NUMBER, ReviewSpec, RowView
from gateway.validation import refusal
from shared.chat import DiagramRequest
from shared.errors import GenPlatError, NotFound

router = APIRouter(prefix="/syntheses", include_in_schema=False)

AfterQuery = Annotated[int, Query(ge=0, le=MAX_NUMBER)]
NumberPath = Annotated[int, Path(ge=1, le=MAX_NUMBER)]

SHOWN = 50
STATUSES = ("kept", "pending", "accepted", "edited", "rejected", "dropped")


@router.get("/{synthesis_id}/review")
def review(
    synthesis_id: str, services: ServicesDep, owner: PageOwnerDep, after: AfterQuery = 0
) -> Response:
    """The next row that nobody has looked at; where none is left, back to the synthesis."""
    for behind in dict.fromkeys((after, 0)):
        rows, _ = reviewing.list_rows(
            database=services.database,
            owner=owner,
            synthesis_id=synthesis_id,
            status="pending",
            after=behind,
            limit=1,
        )
        if rows:
            return see_other(f"/syntheses/{synthesis_id}/rows/{rows[0].number}")
    return see_other(f"/syntheses/{synthesis_id}")


@router.get("/{synthesis_id}/rows")
def list_rows(
    synthesis_id: str,
    services: ServicesDep,
    owner: PageOwnerDep,
    status: str = "kept",
    after: AfterQuery = 0,
) -> Response:
    synthesis = _synthesis(services, owner, synthesis_id)
    wanted: Any = status if status in STATUSES else "kept"
    rows, has_more = reviewing.list_rows(
        database=services.database,
        owner=owner,
        synthesis_id=synthesis_id,
        status=wanted,
        after=after,
        limit=SHOWN,
    )
    return page(
        "syntheses/rows.html",
        synthesis=synthesis,
        rows=rows,
        has_more=has_more,
        status_shown=wanted,
        statuses=STATUSES,
        reasons=REASONS,
    )


@router.get("/{synthesis_id}/rows/{number}")
def show_row(
    synthesis_id: str, number: NumberPath, services: ServicesDep, owner: PageOwnerDep
) -> Response:
    return _show(services, owner, synthesis_id, number)


@router.post("/{synthesis_id}/rows/{number}")
def review_row(
    synthesis_id: str,
    number: NumberPath,
    services: ServicesDep,
    owner: PageOwnerDep,
    action: Annotated[str, Form()] = "",
    prompt: Annotated[str, Form()] = "",
    completion: Annotated[str, Form()] = "",
    back: Annotated[str, Form()] = "",
) -> Response:
    """``back``: the table that it was decided in; else the next row follows."""
    taken = action if action in ("accept", "reject", "undo") else "edit"
    texts = {"prompt": prompt, "completion": completion} if taken == "edit" else {}
    try:
        # (Accepting with the texts as they stand in the form: what was changed counts.)
        reviewing.review_row(
            services=services,
            owner=owner,
            synthesis_id=synthesis_id,
            number=number,
            spec=ReviewSpec.model_validate({"action": taken, **texts}),
        )
    except NotFound:
        raise
    except (GenPlatError, ValidationError) as error:
        said = error.message if isinstance(error, GenPlatError) else refusal(error).message
        return _show(services, owner, synthesis_id, number, said, texts)
    if back in STATUSES:
        return see_other(f"/syntheses/{synthesis_id}/rows?status={back}#row-{number}")
    if taken == "undo":
        return see_other(f"/syntheses/{synthesis_id}/rows/{number}")
    return see_other(f"/syntheses/{synthesis_id}/review?after={number}")


@router.get("/{synthesis_id}/rows/{number}/diagram.svg")
async def row_diagram(
    synthesis_id: str, number: NumberPath, services: ServicesDep, owner: PageOwnerDep
) -> Response:
    """The answer as an image; where it is none, an image that says why."""
    row = await run_in_threadpool(
        reviewing.get_row,
        database=services.database,
        owner=owner,
        synthesis_id=synthesis_id,
        number=number,
    )
    source = diagram_in(row.completion)
    if not source:
        raise NotFound("The answer of this row is no diagram.")
    try:
        drawn = await services.inference.draw(DiagramRequest(source=source))
        why = drawn.error.message if drawn.error else "It does not render."
        image = drawn.svg if drawn.rendered else None
    except GenPlatError as error:
        image, why = None, error.message
    headers = {"X-Content-Type-Options": "nosniff", "Content-Security-Policy": SVG_POLICY}
    return Response(image or _said(why), media_type="image/svg+xml", headers=headers)


def _said(text: str) -> str:
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" width="480" height="40">'
        f'<text x="8" y="25" font-size="14" fill="#b42318">{html.escape(text[:80])}</text></svg>'
    )


def _synthesis(services: Services, owner: str, synthesis_id: str) -> views.SynthesisView:
    return views.get_synthesis(database=services.database, owner=owner, synthesis_id=synthesis_id)


def _show(
    services: Services,
    owner: str,
    synthesis_id: str,
    number: NumberPath,
    problem: str | None = None,
    typed: dict[str, str] | None = None,
) -> Response:
    synthesis = _synthesis(services, owner, synthesis_id)
    row = reviewing.get_row(
        database=services.database, owner=owner, synthesis_id=synthesis_id, number=number
    )
    return page(
        "syntheses/row.html",
        status=UNPROCESSABLE if problem else 200,
        synthesis=synthesis,
        row=row,
        values={"prompt": row.prompt, "completion": row.completion} | (typed or {}),
        draws=bool(diagram_in(row.completion)),
        changes=_changes(row),
        problem=problem,
    )


def _changes(row: RowView) -> dict[str, str]:
    """What was edited, as it was."""
    before = row.original or {}
    now = {"prompt": row.prompt, "completion": row.completion}
    return {name: text for name, text in before.items() if text != now[name]}
