"""How a model was asked while it learned: recorded with the run, used again in serving."""

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from shared.datasets import Message
from shared.runs import Family

FILE_NAME = "prompt_template.json"


class PromptTemplate(BaseModel):
    """The part of a model's behaviour that its weights do not hold.

    ``chat_template`` is the Jinja source of a causal model's chat format (empty: the messages'
    texts, joined by line breaks; seq2seq models always read them so).
    ``task_prefix`` goes before the text of the last user message.
    ``stop_token_ids`` are the tokens that end an answer.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    base_model: str
    family: Family = "causal"
    chat_template: str = ""
    task_prefix: str = ""
    stop_token_ids: tuple[int, ...] = Field(min_length=1)

    def prepare(self, messages: tuple[Message, ...]) -> tuple[Message, ...]:
        """The messages with the task prefix in place; the chat template comes after."""
        if not self.task_prefix:
            return messages
        users = [index for index, message in enumerate(messages) if message.role == "user"]
        if not users:
            return messages
        last = users[-1]
        prefixed = messages[last].model_copy(
            update={"content": self.task_prefix + messages[last].content}
        )
        return (*messages[:last], prefixed, *messages[last + 1 :])

    def save(self, folder: Path) -> None:
        (folder / FILE_NAME).write_text(self.model_dump_json(indent=2), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> "PromptTemplate":
        return cls.model_validate_json((folder / FILE_NAME).read_text(encoding="utf-8"))
