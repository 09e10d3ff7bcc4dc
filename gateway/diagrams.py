"""Diagrams: drawn by a model or from a source, stored with their files. Knows no HTTP."""

import asyncio
import base64
import binascii
from datetime import datetime
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator
from sqlmodel import select

from gateway import upstream_drawing
from gateway.database import Database
from gateway.idempotency import Claim
from gateway.orchestrator.drills import made_error
from gateway.orchestrator.plans import Target
from gateway.paging import DEFAULT_LIMIT, Page, paginate
from gateway.request_log.entries import NOWHERE, Origin
from gateway.services import Services
from gateway.serving import plan_for, serve
from gateway.tables import Diagram, new_id
from shared.chat import MAX_PROMPT_CHARACTERS, ChatMessage, ChatRequest, DiagramRequest
from shared.diagrams import (
    MAX_ATTEMPTS,
    MAX_SOURCE_BYTES,
    DiagramFormat,
    DiagramOptions,
    RenderedDiagram,
    RenderError,
)
from shared.errors import NotFound, UpstreamFailed
from shared.storage import Storage, atomic_file


class DiagramSpec(BaseModel):
    """Either ``scenario`` and ``model`` (a model draws it), or ``source`` (only rendered).

    ``format`` is the image to answer with where the request accepts any (``image/*``).
    """

    model_config = ConfigDict(extra="forbid")

    scenario: str | None = Field(None, min_length=1, max_length=MAX_PROMPT_CHARACTERS)
    model: str | None = Field(None, min_length=1, max_length=500)
    source: str | None = Field(None, min_length=1, max_length=MAX_SOURCE_BYTES)
    max_attempts: int = Field(3, ge=1, le=MAX_ATTEMPTS)
    max_tokens: int | None = Field(None, ge=1, le=8192)
    temperature: float | None = Field(None, ge=0, le=2, allow_inf_nan=False)
    format: DiagramFormat = "svg"

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if (self.scenario is None) == (self.source is None):
            raise ValueError("give either scenario (with model) or source")
        if self.scenario is not None and self.model is None:
            raise ValueError("model is missing: name the one that draws the scenario")
        return self


class DiagramView(BaseModel):
    """A diagram as its owner sees it; the addresses are paths on this server."""

    id: str
    source: str
    rendered: bool
    attempts: int
    svg_url: str | None
    png_url: str | None
    error: RenderError | None
    model: str | None
    created_at: datetime


def view_of(diagram: Diagram) -> DiagramView:
    place = f"/api/diagrams/{diagram.id}"
    return DiagramView(
        id=diagram.id,
        source=diagram.source,
        rendered=diagram.rendered,
        attempts=diagram.attempts,
        svg_url=f"{place}.svg" if diagram.rendered else None,
        png_url=f"{place}.png" if diagram.rendered else None,
        error=RenderError.model_validate(diagram.error) if diagram.error else None,
        model=diagram.model,
        created_at=diagram.created_at,
    )


async def draw(
    *,
    services: Services,
    owner: str,
    spec: DiagramSpec,
    claim: Claim | None = None,
    origin: Origin = NOWHERE,
) -> tuple[DiagramView, dict[str, str]]:
    """Draw, store, and tell by headers who drew."""
    headers: dict[str, str] = {}
    if spec.source is not None:
        drawing = await services.inference.draw(DiagramRequest(source=spec.source))
    else:
        drawing, headers = await _drawn(services, owner, spec, origin)
    view = await asyncio.to_thread(
        store_diagram,
        database=services.database,
        storage=services.storage,
        owner=owner,
        model=spec.model,
        drawing=drawing,
        claim=claim,
    )
    return view, headers


async def _drawn(
    services: Services, owner: str, spec: DiagramSpec, origin: Origin
) -> tuple[RenderedDiagram, dict[str, str]]:
    """The diagram of a scenario, by a model."""

    async def ask(target: Target) -> RenderedDiagram:
        if target.fault is not None:
            raise made_error(target.fault)
        if target.upstream is not None:
            answer = await upstream_drawing.draw(
                upstreams=services.upstreams,
                inference=services.inference,
                upstream=target.upstream,
                request=_as_chat(spec),
            )
            return RenderedDiagram.model_validate(answer["choices"][0]["message"]["diagram"])
        request = DiagramRequest(
            model=target.engine_name,
            scenario=spec.scenario,
            max_attempts=spec.max_attempts,
            max_tokens=spec.max_tokens,
            temperature=spec.temperature,
        )
        return await services.inference.draw(request)

    model = spec.model or ""
    with services.log.recorded(owner, _as_chat(spec), origin) as entry:
        plan = await plan_for(services=services, owner=owner, model=model)
        entry.planned(plan)
        served = await serve(services=services, owner=owner, plan=plan, ask=ask)
        entry.served(served.target.label, served.fallbacks, served.reason)
        served.visit.succeeded()
        said = {"content": served.result.source, "diagram": {"rendered": served.result.rendered}}
        entry.answer = {"choices": [{"message": said}]}
    return served.result, served.headers | entry.headers


def _as_chat(spec: DiagramSpec) -> ChatRequest:
    """The same as a conversation in diagram mode would ask."""
    given = spec.model_dump(include={"max_tokens", "temperature"}, exclude_none=True)
    return ChatRequest(
        model=spec.model or "",
        messages=[ChatMessage(role="user", content=spec.scenario or "")],
        diagram=DiagramOptions(max_attempts=spec.max_attempts),
        **given,
    )


def store_diagram(
    *,
    database: Database,
    storage: Storage,
    owner: str,
    model: str | None,
    drawing: RenderedDiagram,
    claim: Claim | None = None,
) -> DiagramView:
    """Write the files, then the row that makes them known."""
    diagram = Diagram(
        id=new_id("dg"),
        owner=owner,
        model=model,
        source=drawing.source,
        rendered=drawing.rendered,
        attempts=drawing.attempts,
        error=drawing.error.model_dump() if drawing.error else None,
    )
    for suffix, content in _files(drawing).items():
        with atomic_file(storage.diagram(diagram.id, suffix)) as file:
            file.write(content)
    with database.write() as session:
        session.add(diagram)
        session.flush()
        if claim is not None:
            claim.attach(session, diagram.id)
    return view_of(diagram)


def _files(drawing: RenderedDiagram) -> dict[str, bytes]:
    files = {"puml": drawing.source.encode()}
    if not drawing.rendered:
        return files
    if drawing.svg is None or drawing.png is None:
        raise UpstreamFailed("The inference service rendered a diagram but sent no image.")
    try:
        png = base64.b64decode(drawing.png, validate=True)
    except binascii.Error as error:
        raise UpstreamFailed("The inference service sent an image that cannot be read.") from error
    return files | {"svg": drawing.svg.encode(), "png": png}


def get_diagram(*, database: Database, owner: str, diagram_id: str) -> DiagramView:
    with database.read() as session:
        diagram = session.get(Diagram, diagram_id)
    if diagram is None or diagram.owner != owner:
        raise NotFound(f"There is no diagram {diagram_id[:80]!r}.", param="diagram_id")
    return view_of(diagram)


def list_diagrams(
    *, database: Database, owner: str, after: str | None = None, limit: int = DEFAULT_LIMIT
) -> Page[DiagramView]:
    with database.read() as session:
        page = paginate(
            session=session,
            query=select(Diagram).where(Diagram.owner == owner),
            table=Diagram,
            key=Diagram.id,
            after=after,
            limit=limit,
        )
    return Page([view_of(diagram) for diagram in page.data], page.has_more)


def diagram_file(
    *, database: Database, storage: Storage, owner: str, diagram_id: str, suffix: str
) -> Path:
    """The file of a diagram; a diagram that did not render has only its source."""
    diagram = get_diagram(database=database, owner=owner, diagram_id=diagram_id)
    path = storage.diagram(diagram.id, suffix)
    if not path.is_file():
        raise NotFound(f"The diagram {diagram.id} has no {suffix}: it did not render.")
    return path
