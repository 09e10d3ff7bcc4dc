"""The chat: one page for text and diagrams, answered whole or as a stream."""

from typing import Annotated

from fastapi import APIRouter, Form, Request
from fastapi.responses import Response
from pydantic import ValidationError
from starlette.concurrency import run_in_threadpool

from gateway import completions
from gateway.api.disconnects import unless_gone
from gateway.api.streaming import EventStream
from gateway.deps import PageOwnerDep, ServicesDep
from gateway.pages.html import UNPROCESSABLE, no_problems, page, page_origin, problems
from gateway.pages.model_choices import chat_choices
from gateway.request_log.entries import HEADER
from gateway.services import Services
from shared.chat import ChatRequest
from shared.errors import GenPlatError
from ui import chat_form
from ui.chat_form import ChatForm

router = APIRouter(prefix="/chat", include_in_schema=False)


@router.get("")
def show_chat(
    services: ServicesDep, owner: PageOwnerDep, model: str = "", mode: str = "text"
) -> Response:
    return _page(services, owner, ChatForm(model=model, mode=mode))


@router.post("")
async def send_message(
    form: Annotated[ChatForm, Form()], request: Request, services: ServicesDep, owner: PageOwnerDep
) -> Response:
    """A whole answer, for browsers without JavaScript."""
    try:
        asked = ChatRequest.model_validate(chat_form.request_body(form))
        work = completions.complete(
            services=services, owner=owner, request=asked, origin=page_origin(request)
        )
        answer = await unless_gone(request, work)
    except (GenPlatError, ValidationError) as error:
        return await run_in_threadpool(_page, services, owner, form, error)
    answered = chat_form.answered(
        form, answer.body["choices"][0]["message"], answer.headers.get(HEADER)
    )
    return await run_in_threadpool(_page, services, owner, answered)


@router.post("/stream")
async def stream_answer(
    body: ChatRequest, request: Request, services: ServicesDep, owner: PageOwnerDep
) -> Response:
    """The answer as it is written, in OpenAI's chunks; the page's script reads it."""
    asked = body.model_copy(update={"stream": True})
    work = completions.stream(
        services=services, owner=owner, request=asked, origin=page_origin(request)
    )
    headers, chunks = await unless_gone(request, work)
    return EventStream(chunks, headers)


def _page(
    services: Services,
    owner: str,
    form: ChatForm,
    error: GenPlatError | ValidationError | None = None,
) -> Response:
    groups = chat_choices(services, owner)
    names = [value for _, choices in groups for value, _ in choices]
    chosen = form.model if form.model in names else next(iter(names), "")
    shown = problems(error, chat_form.FIELDS) if error else no_problems()
    return page(
        "chat/chat.html",
        status=UNPROCESSABLE if error else 200,
        groups=groups,
        values=form.model_dump() | {"model": chosen},
        messages=chat_form.turns_of(form),
        history=form.history,
        **shown,
    )
