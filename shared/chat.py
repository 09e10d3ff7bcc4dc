"""What the gateway and the inference service say to each other about models and text.

Chat and completion requests between them are OpenAI's own bodies, so that another OpenAI-shaped
engine can stand in; the model is loaded beforehand by name with `PUT /models/{name}`.
"""

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from shared.diagrams import DiagramOptions

Precision = Literal["auto", "fp32", "bf16"]
ModelState = Literal["loading", "ready", "failed"]

# The name under which the gateway asked; responses carry it as ``model``.
SERVED_AS_HEADER = "x-genplat-served-as"
MAX_PROMPT_CHARACTERS = 1_000_000


class ModelRef(BaseModel):
    """Which weights: a prepared base model, and the run whose result lies over it or, after method
    full, takes its place; with ``checkpoint``, that step's weights instead of the result."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    base_model: str
    run_id: str | None = None
    checkpoint: int | None = None
    precision: Precision = "auto"


class LoadedModel(BaseModel):
    """A model that the inference service holds, or tried to."""

    name: str
    ref: ModelRef
    state: ModelState
    precision: str = ""
    error: str | None = None


class TextPart(BaseModel):
    model_config = ConfigDict(extra="ignore")
    type: Literal["text"]
    text: str


class ChatMessage(BaseModel):
    """A turn as OpenAI's clients send it: a string, or a list of text parts."""

    model_config = ConfigDict(extra="ignore")

    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[TextPart]

    @property
    def text(self) -> str:
        if isinstance(self.content, str):
            return self.content
        return "".join(part.text for part in self.content)


class StreamOptions(BaseModel):
    model_config = ConfigDict(extra="ignore")
    include_usage: bool = False


Stop = str | Annotated[list[str], Field(max_length=4)] | None


class GenerationParameters(BaseModel):
    """Sampling under OpenAI's names. Fields that would widen what a request may reach (another
    base URL, template or code) are refused, not ignored."""

    model_config = ConfigDict(extra="forbid", strict=False)

    model: str = Field(min_length=1, max_length=500)
    stream: bool = False
    stream_options: StreamOptions | None = None
    max_tokens: int | None = Field(None, ge=1, le=131_072, strict=True)
    max_completion_tokens: int | None = Field(None, ge=1, le=131_072, strict=True)
    temperature: float | None = Field(None, ge=0, le=2, allow_inf_nan=False)
    top_p: float | None = Field(None, gt=0, le=1, allow_inf_nan=False)
    top_k: int | None = Field(None, ge=0, le=100_000)
    seed: int | None = Field(None, ge=-(2**63), lt=2**63)
    stop: Stop = None
    n: int = Field(1, ge=1, le=1)
    user: str | None = Field(None, max_length=500)
    frequency_penalty: Literal[0] | None = None
    presence_penalty: Literal[0] | None = None

    @property
    def new_token_limit(self) -> int | None:
        return self.max_completion_tokens or self.max_tokens

    @property
    def stop_strings(self) -> tuple[str, ...]:
        if self.stop is None:
            return ()
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop)


class ChatRequest(GenerationParameters):
    """`POST /v1/chat/completions`; ``diagram`` turns PlantUML mode on. With
    ``continue_final_message`` (vLLM's name) the last message, an assistant's, is the beginning of
    the answer, which goes on behind it."""

    messages: list[ChatMessage] = Field(min_length=1, max_length=1000)
    continue_final_message: bool = False
    diagram: DiagramOptions | None = None
    metadata: dict[str, str] | None = None
    store: bool | None = None
    response_format: dict[Literal["type"], Literal["text"]] | None = None

    @model_validator(mode="after")
    def _something_to_continue(self) -> Self:
        if self.continue_final_message and (
            self.messages[-1].role != "assistant" or len(self.messages) == 1
        ):
            raise ValueError("continue_final_message: end messages with the assistant's beginning")
        if self.continue_final_message and self.diagram is not None:
            raise ValueError("continue_final_message: a diagram is written whole")
        return self


class CompletionRequest(GenerationParameters):
    """`POST /v1/completions`: raw text, no chat template."""

    prompt: str = Field(min_length=1, max_length=MAX_PROMPT_CHARACTERS)


class LikelihoodQuestion(BaseModel):
    """`POST /likelihood` of the inference service: how likely the model holds ``answer`` as the
    next turn behind ``messages``."""

    model_config = ConfigDict(extra="forbid")

    model: str = Field(min_length=1, max_length=500)
    messages: list[ChatMessage] = Field(min_length=1, max_length=1000)
    answer: str = Field(max_length=MAX_PROMPT_CHARACTERS)


class Likelihood(BaseModel):
    """In nats, over so many tokens: those of the answer, and the one that ends it."""

    log_likelihood: float
    tokens: int


class DiagramRequest(BaseModel):
    """`POST /diagrams` of the inference service: words or a source in, a diagram out."""

    model_config = ConfigDict(extra="forbid")

    model: str | None = Field(None, max_length=500)
    scenario: str | None = Field(None, max_length=MAX_PROMPT_CHARACTERS)
    source: str | None = None
    max_attempts: int = Field(3, ge=1, le=8)
    max_tokens: int | None = Field(None, ge=1, le=8192)
    temperature: float | None = Field(None, ge=0, le=2)
    seed: int | None = None
