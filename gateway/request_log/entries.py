"""One request on its way into the log. What costs time is done later, by the writer. Pure."""

import hashlib
import secrets
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

from gateway.answers import Answered, count_in, read_answer, text_in
from gateway.completion_requests import Request, asker_of, draws_diagram
from gateway.orchestrator.plans import Plan
from gateway.orchestrator.routing import Asker
from gateway.orchestrator.transcript import Said
from gateway.request_log.masking import mask
from shared.chat import ChatRequest
from shared.errors import GenPlatError

Keeps = Literal["content", "metadata", "none"]
Kind = Literal["chat", "completion", "prediction", "diagram", "batch"]

# What would fill the log with one request is not kept.
MAX_CHARACTERS = 200_000
MAX_TAGS = 16
_MAX_SHORT = 200
# What is said of a request beside its text.
_PARAMETERS = (
    "temperature", "top_p", "top_k", "seed", "stop", "max_tokens", "max_completion_tokens",
    "diagram",
)  # fmt: skip
HEADER = "x-genplat-request-id"
# By which a caller asks for less to be kept.
LOG_HEADER = "x-genplat-log"


def new_log_id() -> str:
    return f"req_{secrets.token_hex(12)}"


@dataclass(frozen=True)
class Origin:
    """Where a request comes from, and how much of it may be kept."""

    key_id: str | None = None
    client: str | None = None
    request_id: str | None = None
    keeps: Keeps = "content"
    kind: Kind | None = None
    shadow_of: str | None = None


NOWHERE = Origin()


@dataclass
class Entry:
    """A request, from its beginning on; each field is set when it is known."""

    owner: str
    request: Request
    origin: Origin
    id: str = field(default_factory=new_log_id)
    created_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    began: float = field(default_factory=time.perf_counter)
    seconds: float = 0.0
    first_token_seconds: float | None = None
    route: str | None = None
    drawn: str | None = None
    served_by: str | None = None
    continued_by: str | None = None
    fallbacks: int = 0
    fallback_reason: str | None = None
    sticky: str | None = None
    status: int = 200
    error_code: str | None = None
    answer: dict[str, Any] | None = None
    said: Said | None = None
    # For metrics: what is written again after a failure is counted once.
    tokens_counted: bool = False

    def passed(self) -> float:
        return time.perf_counter() - self.began

    def planned(self, plan: Plan) -> None:
        """Whom it will be asked of."""
        self.route, self.sticky = plan.route, plan.sticky
        self.drawn = plan.targets[0].label if plan.targets else None

    def served(self, label: str, fallbacks: int, reason: str | None) -> None:
        self.served_by, self.fallbacks, self.fallback_reason = label, fallbacks, reason

    def continued(self, label: str, reason: str) -> None:
        """The answer broke off, and somebody else goes on with it."""
        self.continued_by = label
        self.fallback_reason = ", ".join(filter(None, [self.fallback_reason, reason]))

    @property
    def headers(self) -> dict[str, str]:
        """By what the answer may be rated."""
        return {HEADER: self.id} if self.origin.keeps != "none" else {}

    def failed(self, error: BaseException) -> None:
        """Nobody answered, or the answer broke off."""
        if isinstance(error, GenPlatError):
            self.status, self.error_code = error.status, error.code
        elif isinstance(error, Exception):
            self.status, self.error_code = GenPlatError.status, GenPlatError.code
        else:
            # The reader has left, or the server ends.
            self.status, self.error_code = 499, "client_closed_request"

    def characters(self) -> int:
        """About how many of them it holds in memory."""
        if self.said is not None:
            said = self.said.size
        else:
            said = len(read_answer(self.answer or {}).text or "")
        return said + _asked_characters(self.request)


def row_of(entry: Entry, *, masks: bool) -> dict[str, Any]:
    """The columns of `LoggedRequest`. (Not the object: thousands of them are written a second.)"""
    said, origin = _said(entry), entry.origin
    full = origin.keeps == "content"
    return {
        "id": entry.id,
        "owner": entry.owner,
        "key_id": origin.key_id,
        "created_at": entry.created_at,
        "kind": origin.kind or _kind(entry.request),
        "client": origin.client if full else None,
        "request_id": _short(origin.request_id),
        "completion_id": _short(said.completion_id),
        "model": _clean(entry.request.model),
        "route": entry.route,
        "drawn": entry.drawn,
        "served_by": entry.served_by,
        "continued_by": entry.continued_by,
        "fallbacks": entry.fallbacks,
        "fallback_reason": entry.fallback_reason,
        "unit": _unit(entry),
        "shadow_of": origin.shadow_of,
        "status": entry.status,
        "error_code": _short(entry.error_code),
        "stream": entry.said is not None,
        "seconds": round(entry.seconds, 6),
        "first_token_seconds": _rounded(entry.first_token_seconds),
        "prompt_tokens": said.prompt_tokens,
        "completion_tokens": said.completion_tokens,
        "finish_reason": _short(said.finish_reason),
        "rendered": said.rendered,
        "parameters": _parameters(entry.request) if full else {},
        "tags": _tags(entry.request) if full else [],
        **_content(entry, said.text, masks=masks),
        "judge_score": None,
        "judged_at": None,
        "feedback": None,
        "feedback_comment": None,
        "correction": None,
        "feedback_at": None,
        "first_rating": None,
        "first_rated_at": None,
    }


def _content(entry: Entry, reply: str | None, *, masks: bool) -> dict[str, Any]:
    found: dict[str, Any] = {"messages": None, "prompt": None, "reply": None, "withheld": None}
    if entry.origin.keeps != "content":
        return found | {"withheld": "opted_out"}
    if len(reply or "") + _asked_characters(entry.request) > MAX_CHARACTERS:
        return found | {"withheld": "too_long"}

    def kept(text: str) -> str:
        return mask(_clean(text)) if masks else _clean(text)

    messages = _messages(entry.request, kept)
    asked = [message["content"] for message in messages if message["role"] == "user"]
    found["messages"], found["prompt"] = messages, (asked or [messages[-1]["content"]])[-1]
    found["reply"] = None if reply is None else kept(reply)
    return found


def _parameters(request: Request) -> dict[str, Any]:
    given = [name for name in _PARAMETERS if name in request.model_fields_set]
    if not given:
        return {}
    return request.model_dump(mode="json", include=set(given))


def _asked_characters(request: Request) -> int:
    if isinstance(request, ChatRequest):
        return sum(len(message.text) for message in request.messages)
    return len(request.prompt)


def _messages(request: Request, kept: Any) -> list[dict[str, str]]:
    if isinstance(request, ChatRequest):
        return [{"role": turn.role, "content": kept(turn.text)} for turn in request.messages]
    return [{"role": "user", "content": kept(request.prompt)}]


def _said(entry: Entry) -> Answered:
    """What was answered, whole or in pieces."""
    if (said := entry.said) is None:
        return read_answer(entry.answer or {})
    # Most service LLMs tell no numbers in a stream unless they are asked to.
    usage = said.usage or {"completion_tokens": said.pieces}
    return Answered(
        said.text,
        text_in(said.head.get("id")),
        count_in(usage.get("prompt_tokens")),
        count_in(usage.get("completion_tokens")),
        said.finish_reason,
        said.rendered,
    )


def _unit(entry: Entry) -> str:
    """Whose requests were drawn alike; a request of nobody in particular stands for itself."""
    asker: Asker = asker_of(entry.request)
    key = {"user": asker.user, "conversation": asker.conversation}.get(entry.sticky or "")
    text = f"{entry.route}\n{entry.sticky}\n{key}" if key else entry.id
    return hashlib.sha256(text.encode(errors="replace")).hexdigest()


def _kind(request: Request) -> Kind:
    if draws_diagram(request):
        return "diagram"
    return "chat" if isinstance(request, ChatRequest) else "completion"


def _tags(request: Request) -> list[str]:
    """OpenAI's ``metadata`` as ``name:value``."""
    given = request.metadata if isinstance(request, ChatRequest) else None
    pairs = list((given or {}).items())[:MAX_TAGS]
    return [_clean(f"{name}:{value}")[:_MAX_SHORT] for name, value in pairs]


def _clean(text: str) -> str:
    """What every database takes."""
    return text.encode("utf-8", "replace").decode().replace("\0", "\ufffd")


def _short(text: str | None) -> str | None:
    return None if text is None else _clean(text)[:_MAX_SHORT]


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 6)
