"""The canonical training record: whatever form a file has, this is what is stored and learned."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Role = Literal["system", "user", "assistant"]


class Message(BaseModel):
    """One turn. ``weight`` (OpenAI's word, assistants only) 0 keeps a turn from being learned."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    role: Role
    content: str
    weight: Literal[0, 1] | None = None

    @property
    def learned(self) -> bool:
        return self.role == "assistant" and self.weight != 0


class Record(BaseModel):
    """A conversation that ends in an assistant's turn; the learned turns are the completions."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    messages: tuple[Message, ...] = Field(min_length=2)

    @model_validator(mode="after")
    def _ends_in_an_answer(self) -> "Record":
        if self.messages[-1].role != "assistant":
            raise ValueError("the last message must be the assistant's")
        if not any(message.learned for message in self.messages):
            raise ValueError("no assistant message is learned: every weight is 0")
        return self

    @classmethod
    def from_pair(cls, prompt: str, completion: str) -> "Record":
        return cls(
            messages=(
                Message(role="user", content=prompt),
                Message(role="assistant", content=completion),
            )
        )

    @property
    def prompt(self) -> tuple[Message, ...]:
        """Everything before the last answer."""
        return self.messages[:-1]

    @property
    def completion(self) -> str:
        return self.messages[-1].content

    @property
    def source_key(self) -> str:
        """Hash of the source text; splits go by it: two answers to one source never part."""
        source = [[message.role, message.content] for message in self.prompt]
        return hashlib.sha256(json.dumps(source).encode()).hexdigest()


def read_records(path: Path) -> Iterator[Record]:
    """The records of a canonical file (JSON lines), in order."""
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            yield Record.model_validate_json(line)
