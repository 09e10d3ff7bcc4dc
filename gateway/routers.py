"""Which routers the gateway has, and who may use each: a guard is given here, never by a path."""

from types import ModuleType
from typing import Any

from fastapi import Depends, FastAPI

from gateway.api import (
    answering,
    dataset_intake,
    diagrams,
    docs,
    experiments,
    fine_tuning,
    health,
    library,
    models,
    openai,
    openai_files,
    predictions,
    preflight,
    readiness,
    route_migrations,
    route_shadows,
)
from gateway.api import batches as batches_api
from gateway.api import datasets as datasets_api
from gateway.api import deployments as deployments_api
from gateway.api import evaluations as evaluations_api
from gateway.api import keys as keys_api
from gateway.api import loops as loops_api
from gateway.api import requests as requests_api
from gateway.api import routes as routes_api
from gateway.api import runs as runs_api
from gateway.api import syntheses as syntheses_api
from gateway.api import upstreams as upstreams_api
from gateway.deps import needs, page_owner
from gateway.errors import ErrorAnswer
from gateway.pages import (
    batches,
    chat,
    dataset_upload,
    datasets,
    deployments,
    evaluations,
    home,
    keys,
    login,
    loops,
    preflights,
    routes,
    run_actions,
    run_compare,
    run_form,
    runs,
    syntheses,
    synthesis_review,
    trials,
)
from gateway.pages import models as model_pages
from gateway.pages import readiness as readiness_pages
from gateway.pages import requests as request_pages
from gateway.scopes import Scope

# Each with what a key must hold to read, and to change something; None: any key will do.
# (First the one that most requests are for: paths are tried in order.)
API: tuple[tuple[ModuleType, Scope | None, Scope | None], ...] = (
    (openai, None, "infer"),
    (answering, None, "infer"),
    (batches_api, None, "infer"),
    (dataset_intake, "read", "train"),
    (datasets_api, "read", "train"),
    (deployments_api, "read", "admin"),
    (diagrams, None, "infer"),
    (experiments, "read", "admin"),
    (evaluations_api, "read", "train"),
    (fine_tuning, "read", "train"),
    (keys_api, "admin", "admin"),
    (library, "read", "train"),
    (loops_api, "read", "admin"),
    (models, None, "admin"),
    # (It depends on the file.)
    (openai_files, None, None),
    (predictions, None, "infer"),
    (preflight, "read", "train"),
    (requests_api, "read", "train"),
    (readiness, "read", "admin"),
    (route_migrations, "read", "admin"),
    (route_shadows, "read", "admin"),
    (routes_api, "read", "admin"),
    (runs_api, "read", "train"),
    (syntheses_api, "read", "train"),
    (upstreams_api, "read", "admin"),
)
# Fixed paths before those with an id in them: "new", "import" and "compare" are no ids.
PAGES = (
    batches,
    chat,
    dataset_upload,
    datasets,
    deployments,
    evaluations,
    home,
    keys,
    loops,
    model_pages,
    preflights,
    request_pages,
    routes,
    trials,
    readiness_pages,
    run_compare,
    run_form,
    runs,
    run_actions,
    syntheses,
    synthesis_review,
)
# Open to all (health, logging in), or with guards of their own (metrics, docs).
OTHERS = (health, docs, login)


ERRORS: dict[int | str, dict[str, Any]] = {
    "4XX": {"model": ErrorAnswer, "description": "The request is at fault."},
    "5XX": {"model": ErrorAnswer, "description": "The service is at fault."},
}


def include_routers(app: FastAPI) -> None:
    guarded = [(module.router, reads, writes) for module, reads, writes in API]
    for router, reads, writes in (*guarded, (requests_api.ratings, None, "infer")):
        guard = Depends(needs(reads, writes))
        app.include_router(router, dependencies=[guard], responses=ERRORS)
    for module in OTHERS:
        app.include_router(module.router)
    for page in PAGES:
        app.include_router(page.router, dependencies=[Depends(page_owner)])
