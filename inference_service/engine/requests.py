"""What goes into the engine and what comes out of it; knows neither chat formats nor the wire."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from inference_service.engine.base_model import BaseModel
    from inference_service.engine.lora import Adapter

FinishReason = Literal["stop", "length"]


@dataclass(frozen=True)
class Sampling:
    """How the next token is chosen. Temperature 0 is greedy; ``top_k`` 0 is no limit."""

    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    seed: int | None = None


@dataclass(frozen=True)
class GenerationRequest:
    """One prompt, already in tokens, for one base model with or without an adapter."""

    base: "BaseModel"
    prompt_ids: tuple[int, ...]
    max_new_tokens: int
    adapter: "Adapter | None" = None
    sampling: Sampling = field(default_factory=Sampling)
    stop_strings: tuple[str, ...] = ()
    stop_token_ids: frozenset[int] = frozenset()
    # The answer's text goes on behind that of the prompt: a first word keeps the space before it.
    continues: bool = False


@dataclass(frozen=True)
class Chunk:
    """A piece of the answer. The first one is empty: it says that the request was accepted.

    The last one carries ``finish_reason``; ``completion_tokens`` counts up to this chunk.
    """

    text: str
    prompt_tokens: int
    completion_tokens: int = 0
    finish_reason: FinishReason | None = None
