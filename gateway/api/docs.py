"""The API's description and Swagger, for whoever is logged in or holds a key."""

from typing import Any

from fastapi import APIRouter, Depends, Request
from fastapi.responses import HTMLResponse

from gateway.deps import current_owner, page_owner
from ui.rendering import asset

router = APIRouter(include_in_schema=False)

SWAGGER = "vendor/swagger-ui-5.35.0"
# Swagger sets styles on its elements from its script; there is no build of it without. Scripts
# stay external, and nothing may be loaded from or sent to anywhere else.
CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data:; connect-src 'self'; form-action 'self'; frame-ancestors 'none'; "
    "base-uri 'none'"
)
_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>GenPlat API</title>
<link rel="icon" href="{icon}" type="image/svg+xml">
<link rel="stylesheet" href="{style}">
</head>
<body>
<div id="swagger-ui" data-url="{url}"></div>
<script src="{bundle}"></script>
<script src="{start}"></script>
</body>
</html>
"""


def swagger_page(url: str) -> HTMLResponse:
    """Swagger over the description at ``url``, a path of this site made by us."""
    html = _PAGE.format(
        url=url,
        icon=asset("icon.svg"),
        style=asset(f"{SWAGGER}/swagger-ui.css"),
        bundle=asset(f"{SWAGGER}/swagger-ui-bundle.js"),
        start=asset(f"{SWAGGER}/start.js"),
    )
    return HTMLResponse(html, headers={"Content-Security-Policy": CSP})


@router.get("/docs", dependencies=[Depends(page_owner)])
def docs() -> HTMLResponse:
    return swagger_page("/openapi.json")


@router.get("/openapi.json", dependencies=[Depends(current_owner)])
def openapi(request: Request) -> dict[str, Any]:
    schema: dict[str, Any] = request.app.openapi()
    return schema
