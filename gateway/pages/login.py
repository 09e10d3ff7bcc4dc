"""Logging in by the printed link or an API key, and logging out."""

from typing import Annotated

from fastapi import APIRouter, Form, Request
from fastapi.responses import Response
from starlette.concurrency import run_in_threadpool

from gateway import auth
from gateway.deps import ServicesDep, session_cookie
from gateway.pages.html import page, see_other
from gateway.services import Services
from shared.errors import GenPlatError

router = APIRouter(include_in_schema=False)


@router.get("/login")
async def show_login(
    request: Request, services: ServicesDep, token: str | None = None, next: str = "/"
) -> Response:
    """The form; or, with the token of the printed link, straight on to ``next``."""
    if token is None:
        return page("login/login.html", error=None, next=auth.safe_next(next))
    return await _log_in(request, services, token, next)


@router.post("/login")
async def log_in(
    request: Request,
    services: ServicesDep,
    key: Annotated[str, Form()] = "",
    next: Annotated[str, Form()] = "/",
) -> Response:
    return await _log_in(request, services, key.strip(), next)


@router.post("/logout")
async def log_out(request: Request, services: ServicesDep) -> Response:
    cookie = session_cookie(request)
    if cookie is not None:
        await run_in_threadpool(auth.logout, database=services.database, cookie=cookie)
    answer = see_other("/login")
    answer.delete_cookie(auth.COOKIE)
    return answer


async def _log_in(request: Request, services: Services, secret: str, target: str) -> Response:
    target = auth.safe_next(target)
    try:
        cookie = await run_in_threadpool(
            auth.login,
            database=services.database,
            settings=services.settings,
            limit=request.app.state.login_limit,
            secret=secret,
            client=request.client.host if request.client else "",
        )
    except GenPlatError as error:
        return page("login/login.html", status=error.status, error=error.message, next=target)
    answer = see_other(target)
    answer.set_cookie(
        auth.COOKIE,
        cookie,
        max_age=services.settings.session_days * 86_400,
        httponly=True,
        samesite="lax",
        secure=services.settings.secure_cookies,
    )
    return answer
