"""From messages to token ids, with the template that the model was trained with."""

from collections.abc import Sequence

from jinja2 import TemplateError

from inference_service.engine.base_model import BaseModel
from shared.chat import ChatMessage
from shared.datasets import Message, Role
from shared.errors import InvalidRequest
from shared.prompt_template import PromptTemplate

# No token of a usual vocabulary stands for more characters on average; a longer prompt is refused
# without spending seconds on tokenising it.
CHARACTERS_PER_TOKEN = 32
CANNOT_CONTINUE = "cannot_continue"
_ROLES: dict[str, Role] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
}


def as_messages(chat: Sequence[ChatMessage]) -> tuple[Message, ...]:
    """OpenAI's messages as the canonical ones that training uses."""
    return tuple(Message(role=_ROLES[message.role], content=message.text) for message in chat)


def encode_chat(
    base: BaseModel,
    template: PromptTemplate | None,
    messages: tuple[Message, ...],
    begun: str = "",
) -> tuple[int, ...]:
    """Token ids of a conversation, ending where the assistant's answer begins, or behind what is
    ``begun`` of it."""
    source = template.chat_template if template else base.chat_template
    prepared = template.prepare(messages) if template else messages
    length = sum(len(message.content) for message in prepared)
    _check_length(base, length + len(begun), "messages")
    joined = "\n".join(message.content for message in prepared)
    if base.family == "seq2seq":
        if begun:
            raise InvalidRequest(
                f"{base.id} is an encoder-decoder and cannot go on with an answer that was begun.",
                code=CANNOT_CONTINUE,
                param="continue_final_message",
            )
        # As in training: the tokenizer itself ends a source.
        return _encode(base, joined, "messages", special=True)
    if not source:
        return _encode(base, f"{joined}\n{begun}", "messages", special=False)
    try:
        text = base.tokenizer.apply_chat_template(
            [{"role": message.role, "content": message.content} for message in prepared],
            chat_template=source,
            add_generation_prompt=True,
            tokenize=False,
        )
    except TemplateError as error:
        raise InvalidRequest(
            f"The model's chat template refuses these messages: {error}", param="messages"
        ) from error
    return _encode(base, text + begun, "messages", special=False)


def encode_text(base: BaseModel, text: str) -> tuple[int, ...]:
    """Token ids of raw text, with the tokens that the tokenizer puts around every text."""
    return _encode(base, text, "prompt", special=True)


def _encode(base: BaseModel, text: str, param: str, *, special: bool) -> tuple[int, ...]:
    _check_length(base, len(text), param)
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InvalidRequest(
            f"{param} holds half of a surrogate pair, which is no text.", param=param
        ) from error
    ids = base.codec.encode(text, special=special)
    if not ids:
        raise InvalidRequest(f"{param} has no tokens: give some text.", param=param)
    if len(ids) > base.longest_prompt:
        raise _too_long(base, f"{len(ids)} tokens", param)
    return ids


def _check_length(base: BaseModel, characters: int, param: str) -> None:
    if characters > base.context_length * CHARACTERS_PER_TOKEN:
        raise _too_long(base, f"{characters} characters", param)


def _too_long(base: BaseModel, size: str, param: str) -> InvalidRequest:
    return InvalidRequest(
        f"The prompt has {size}; {base.id} reads at most {base.longest_prompt} tokens. "
        "Shorten the prompt.",
        code="context_length_exceeded",
        param=param,
    )
