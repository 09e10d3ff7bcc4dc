"""`/api/diagrams`: PlantUML mode in one request, as JSON or as the image itself."""

from pathlib import PurePath

from fastapi import APIRouter, Request
from fastapi.responses import FileResponse, Response

from gateway import diagrams
from gateway.api.disconnects import unless_gone
from gateway.api.metering import MeterDep
from gateway.api.origins import OriginDep
from gateway.deps import ListDep, ListPublic, OnceDep, OwnerDep, ServicesDep
from gateway.diagrams import DiagramSpec, DiagramView
from gateway.idempotency import Claim
from gateway.services import Services
from gateway.token_counts import CHARACTERS_PER_TOKEN, USUAL_ANSWER
from shared.diagrams import DiagramFormat
from shared.errors import InvalidData, NotFound

router = APIRouter(prefix="/api/diagrams", tags=["diagrams"])

_MEDIA_TYPES = {"svg": "image/svg+xml", "png": "image/png", "puml": "text/plain; charset=utf-8"}
# An SVG that is opened by itself is a document: nothing in it may run or load.
SVG_POLICY = "sandbox; default-src 'none'; style-src 'unsafe-inline'"


@router.post("", status_code=201, response_model=DiagramView)
async def create_diagram(
    spec: DiagramSpec,
    request: Request,
    services: ServicesDep,
    owner: OwnerDep,
    once: OnceDep,
    meter: MeterDep,
    origin: OriginDep,
) -> Response:
    """Draw a scenario with a model, or render a source. With `Accept: image/png` or
    `image/svg+xml` the answer is the image."""
    headers: dict[str, str] = {}
    made: list[DiagramView] = []

    async def create(claim: Claim | None) -> DiagramView:
        asked = len(spec.scenario or "") // CHARACTERS_PER_TOKEN
        # A source is drawn without a model.
        writes = (spec.max_tokens or USUAL_ANSWER) if spec.scenario else 0
        async with meter.taking(reads=asked, writes=writes):
            view, served_by = await unless_gone(
                request,
                diagrams.draw(
                    services=services, owner=owner, spec=spec, claim=claim, origin=origin
                ),
            )
        headers.update(served_by)
        made.append(view)
        return view

    async def load(diagram_id: str) -> DiagramView:
        return diagrams.get_diagram(database=services.database, owner=owner, diagram_id=diagram_id)

    answer: Response = await once(create, load=load)
    suffix = wanted_image(request.headers.get("accept", ""), spec.format)
    if suffix is not None:
        view = made[0] if made else DiagramView.model_validate_json(bytes(answer.body))
        replayed = answer.headers.get("Idempotent-Replayed")
        answer = _image(services, owner, view, suffix)
        if replayed:
            answer.headers["Idempotent-Replayed"] = replayed
    answer.headers.update(headers)
    return answer


def wanted_image(accept: str, chosen: DiagramFormat) -> DiagramFormat | None:
    """Which image an Accept header asks for: the first that it names; None for JSON."""
    for part in accept.lower().split(","):
        match part.partition(";")[0].strip():
            case "image/svg+xml":
                return "svg"
            case "image/png":
                return "png"
            case "image/*":
                return chosen
            case "application/json":
                return None
    return None


def _image(services: Services, owner: str, view: DiagramView, suffix: DiagramFormat) -> Response:
    if not view.rendered:
        raise InvalidData(
            f"The diagram {view.id} did not render: {_why(view)}", code="diagram_not_rendered"
        )
    answer = _file(services, owner, view.id, suffix)
    answer.status_code = 201
    answer.headers["x-genplat-diagram-id"] = view.id
    return answer


def _why(view: DiagramView) -> str:
    if view.error is None:
        return "the renderer did not say why."
    place = f"line {view.error.line}: " if view.error.line is not None else ""
    return place + view.error.message


@router.get("")
def list_diagrams(services: ServicesDep, owner: OwnerDep, query: ListDep) -> ListPublic:
    page = diagrams.list_diagrams(
        database=services.database, owner=owner, after=query.after, limit=query.limit
    )
    return ListPublic(data=page.data, has_more=page.has_more)


@router.get("/{name}", response_model=DiagramView)
def get_diagram(name: str, services: ServicesDep, owner: OwnerDep) -> DiagramView | FileResponse:
    """A diagram by its id; with `.svg`, `.png` or `.puml` behind the id, that file of it."""
    path = PurePath(name)
    if not path.suffix:
        return diagrams.get_diagram(database=services.database, owner=owner, diagram_id=name)
    if path.suffix[1:] not in _MEDIA_TYPES:
        raise NotFound(f"A diagram has no {path.suffix[:20]}: ask for .svg, .png or .puml.")
    return _file(services, owner, path.stem, path.suffix[1:])


def _file(services: Services, owner: str, diagram_id: str, suffix: str) -> FileResponse:
    path = diagrams.diagram_file(
        database=services.database,
        storage=services.storage,
        owner=owner,
        diagram_id=diagram_id,
        suffix=suffix,
    )
    headers = {"X-Content-Type-Options": "nosniff", "Cache-Control": "private, max-age=86400"}
    if suffix == "svg":
        headers["Content-Security-Policy"] = SVG_POLICY
    return FileResponse(path, media_type=_MEDIA_TYPES[suffix], headers=headers)
