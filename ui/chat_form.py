"""The chat's form: a conversation that travels with it, as a request and as bubbles to show."""

import json
import re
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from shared.diagrams import RenderError

FIELDS = ("message", "temperature", "max_tokens", "max_attempts", "model")
_LOG_ID = re.compile(r"req_[0-9a-f]{24}")
_DIAGRAM_ID = re.compile(r"[A-Za-z0-9_-]{1,80}")


class ChatForm(BaseModel):
    """The fields as texts. ``history``: the turns so far, as JSON."""

    model_config = ConfigDict(extra="ignore")

    model: str = ""
    mode: str = "text"
    message: str = ""
    history: str = "[]"
    temperature: str = "0"
    max_tokens: str = "512"
    max_attempts: str = "3"

    @property
    def draws(self) -> bool:
        return self.mode == "diagram"


class Drawing(BaseModel):
    """A diagram as history holds it. It came back from the browser: addresses are made anew."""

    model_config = ConfigDict(extra="ignore")

    id: str
    rendered: bool
    attempts: int
    error: RenderError | None = None

    @property
    def svg_url(self) -> str | None:
        return self._file("svg")

    @property
    def png_url(self) -> str | None:
        return self._file("png")

    def _file(self, suffix: str) -> str | None:
        known = self.rendered and _DIAGRAM_ID.fullmatch(self.id)
        return f"/api/diagrams/{self.id}.{suffix}" if known else None


class Turn(BaseModel):
    """``request_id``: under which the log has an answer, where it may be rated. It came back from
    the browser, too."""

    model_config = ConfigDict(extra="ignore")

    role: Literal["user", "assistant"]
    content: str
    model: str | None = None
    diagram: Drawing | None = None
    request_id: str | None = None

    @property
    def rated_as(self) -> str | None:
        known = self.request_id is not None and _LOG_ID.fullmatch(self.request_id)
        return self.request_id if known else None


_TURNS = TypeAdapter(list[Turn])


def turns_of(form: ChatForm) -> list[Turn]:
    """The turns so far; a history that is none is an empty one."""
    try:
        return _TURNS.validate_json(form.history or "[]")
    except ValidationError:
        return []


def request_body(form: ChatForm) -> dict[str, Any]:
    """What to ask of the model, for its own schema to check."""
    turns = [*turns_of(form), Turn(role="user", content=form.message.strip())]
    # A diagram starts from its scenario alone, as the model learned it.
    sent = turns[-1:] if form.draws else turns
    body: dict[str, Any] = {
        "model": form.model,
        "messages": [{"role": turn.role, "content": turn.content} for turn in sent],
    }
    if form.temperature.strip():
        body["temperature"] = form.temperature.strip()
    if form.max_tokens.strip():
        # The schema takes whole numbers only, not texts that look like one.
        text = form.max_tokens.strip()
        body["max_tokens"] = int(text) if text.isascii() and text.isdecimal() else text
    if form.draws:
        body["diagram"] = {"format": "svg", "max_attempts": form.max_attempts.strip() or 3}
    return body


def answered(form: ChatForm, message: dict[str, Any], request_id: str | None = None) -> ChatForm:
    """The form after an answer: the conversation is longer, the message is sent."""
    turns = [turn.model_dump(exclude_none=True) for turn in turns_of(form)]
    turns.append({"role": "user", "content": form.message.strip()})
    turn = {"role": "assistant", "content": message["content"], "model": form.model}
    if message.get("diagram"):
        turn["diagram"] = message["diagram"]
    if request_id is not None:
        turn["request_id"] = request_id
    return form.model_copy(update={"history": json.dumps([*turns, turn]), "message": ""})
