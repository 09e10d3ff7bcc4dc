"""What is asked of a model, and of the one that goes on with its answer. Pure."""

from typing import Any

from gateway.orchestrator.routing import Asker
from gateway.orchestrator.transcript import Said
from shared.chat import ChatRequest, CompletionRequest

CHAT_PATH = "/v1/chat/completions"
COMPLETIONS_PATH = "/v1/completions"

Request = ChatRequest | CompletionRequest


def path_of(request: Request) -> str:
    return CHAT_PATH if isinstance(request, ChatRequest) else COMPLETIONS_PATH


def kind_of_path(path: str) -> str:
    return "chat" if path == CHAT_PATH else "text"


def body_of(request: Request) -> dict[str, Any]:
    return request.model_dump(mode="json", exclude_unset=True)


def kind_of(request: Request) -> str:
    return "chat" if isinstance(request, ChatRequest) else "text"


def asker_of(request: Request) -> Asker:
    """A conversation is known by how it begins: up to its first question it never changes."""
    if not isinstance(request, ChatRequest):
        return Asker(request.user)
    begun = []
    for message in request.messages:
        begun.append(f"{message.role}: {message.text}")
        if message.role == "user":
            break
    return Asker(request.user, "\n".join(begun))


def draws_diagram(request: Request) -> bool:
    return isinstance(request, ChatRequest) and request.diagram is not None


def continued(body: dict[str, Any], said: Said) -> dict[str, Any]:
    """The request for the rest of an answer of which ``said`` is there."""
    if not said.text:
        return body
    changed = dict(body)
    for name in ("max_tokens", "max_completion_tokens"):
        if (most := body.get(name)) is not None:
            changed[name] = max(1, most - said.tokens)
    if said.kind == "text":
        return changed | {"prompt": body["prompt"] + said.text}
    messages = list(body["messages"])
    text = said.text
    if body.get("continue_final_message"):
        text = _text_of(messages.pop()) + text
    messages.append({"role": "assistant", "content": text})
    return changed | {"messages": messages, "continue_final_message": True}


def _text_of(message: dict[str, Any]) -> str:
    content = message["content"]
    return content if isinstance(content, str) else "".join(part["text"] for part in content)
