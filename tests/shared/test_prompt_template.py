"""The template of a run: the prefix goes before the last user message, and a file keeps it."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from shared.datasets import Message
from shared.prompt_template import PromptTemplate


def template(prefix: str = "") -> PromptTemplate:
    return PromptTemplate(base_model="a/b", task_prefix=prefix, stop_token_ids=(2,))


def test_the_prefix_goes_before_the_last_user_message() -> None:
    messages = (
        Message(role="system", content="Be brief."),
        Message(role="user", content="one"),
        Message(role="assistant", content="1"),
        Message(role="user", content="two"),
        Message(role="assistant", content="2"),
    )
    prepared = template("fix: ").prepare(messages)
    assert [message.content for message in prepared] == ["Be brief.", "one", "1", "fix: two", "2"]
    assert template().prepare(messages) == messages


def test_without_a_user_message_nothing_changes() -> None:
    messages = (Message(role="system", content="x"), Message(role="assistant", content="y"))
    assert template("fix: ").prepare(messages) == messages


def test_a_file_keeps_it(tmp_path: Path) -> None:
    template("fix: ").save(tmp_path)
    assert PromptTemplate.load(tmp_path) == template("fix: ")


def test_an_answer_needs_an_end() -> None:
    with pytest.raises(ValidationError):
        PromptTemplate(base_model="a/b", stop_token_ids=())
