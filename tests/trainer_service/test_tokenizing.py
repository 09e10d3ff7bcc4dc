"""What is learned of a record, what is left out, and how validation is split off."""

from typing import Any, Literal

import pytest

from shared.datasets import Message, Record
from shared.errors import InvalidData
from shared.prompt_template import PromptTemplate
from tests.trainer_service.tiny import CHATML, tiny_tokenizer
from trainer_service.exit_codes import Preempted
from trainer_service.tokenizing import IGNORED, Row, stop_token_ids, tokenize_record

TOKENIZER = tiny_tokenizer()


def make_template(chat_template: str = CHATML, task_prefix: str = "") -> PromptTemplate:
    return PromptTemplate(
        base_model="tiny",
        chat_template=chat_template,
        task_prefix=task_prefix,
        stop_token_ids=(2,),
    )


def turn(
    role: Literal["system", "user", "assistant"],
    content: str,
    weight: Literal[0, 1] | None = None,
) -> Message:
    return Message(role=role, content=content, weight=weight)


def learned_text(row: Row) -> str:
    return str(TOKENIZER.decode([label for label in row.labels if label != IGNORED]))


def whole_text(row: Row) -> str:
    return str(TOKENIZER.decode(list(row.tokens)))


def test_only_the_completion_and_its_end_are_learned() -> None:
    (row,) = tokenize_record(TOKENIZER, make_template(), Record.from_pair("häuser", "a <b> c"))
    assert learned_text(row) == "a <b> c<|im_end|>"
    assert whole_text(row) == (
        "<|im_start|>user\nhäuser<|im_end|>\n<|im_start|>assistant\na <b> c<|im_end|>"
    )
    assert row.labels[-1] == TOKENIZER.eos_token_id


def test_the_prompt_has_the_same_tokens_as_in_serving() -> None:
    (row,) = tokenize_record(TOKENIZER, make_template(), Record.from_pair("hi", "there"))
    asked = TOKENIZER.apply_chat_template(
        [{"role": "user", "content": "hi"}], add_generation_prompt=True, return_dict=False
    )
    assert list(row.tokens[: len(asked)]) == asked


def test_every_learned_turn_of_a_conversation_is_learned_once() -> None:
    record = Record(
        messages=(
            turn("system", "be brief"),
            turn("user", "one"),
            turn("assistant", "1"),
            turn("user", "two"),
            turn("assistant", "wrong", 0),
            turn("user", "three"),
            turn("assistant", "3"),
        )
    )
    (row,) = tokenize_record(TOKENIZER, make_template(), record)
    assert learned_text(row) == "1<|im_end|>3<|im_end|>"
    assert "wrong<|im_end|>\n<|im_start|>user\nthree" in whole_text(row)


def test_a_template_that_rewrites_the_past_gives_a_row_a_turn() -> None:
    forgets = (
        "{% for m in messages %}{% if m.role == 'assistant' and not loop.last %}(gone)\n"
        "{% else %}{{ m.role }}:{{ m.content }}\n{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}assistant:{% endif %}"
    )
    record = Record(
        messages=(
            turn("user", "one"),
            turn("assistant", "1"),
            turn("user", "two"),
            turn("assistant", "2"),
        )
    )
    first, second = tokenize_record(TOKENIZER, make_template(forgets), record)
    assert (learned_text(first), learned_text(second)) == ("1<|im_end|>", "2<|im_end|>")
    assert whole_text(second) == "user:one\n(gone)\nuser:two\nassistant:2<|im_end|>"


def test_without_a_chat_template_texts_are_joined_and_the_end_is_added() -> None:
    (row,) = tokenize_record(TOKENIZER, make_template(""), Record.from_pair("in", "out"))
    assert whole_text(row) == "in\nout<|im_end|>"
    assert learned_text(row) == "out<|im_end|>"


def test_the_task_prefix_goes_before_the_last_user_text() -> None:
    template = make_template(task_prefix="fix: ")
    (row,) = tokenize_record(TOKENIZER, template, Record.from_pair("teh", "the"))
    assert "user\nfix: teh<|im_end|>" in whole_text(row)


def test_a_stop_that_comes_while_texts_are_read_is_not_bad_data(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def stop(*_arguments: Any, **_options: Any) -> str:
        raise Preempted

    tokenizer = tiny_tokenizer()
    monkeypatch.setattr(tokenizer, "apply_chat_template", stop)
    with pytest.raises(Preempted):
        tokenize_record(tokenizer, make_template(), Record.from_pair("a", "b"))


def test_a_template_that_refuses_is_bad_data() -> None:
    strict = "{{ raise_exception('no system turn') }}"
    with pytest.raises(InvalidData, match="no system turn"):
        tokenize_record(TOKENIZER, make_template(strict), Record.from_pair("a", "b"))


def test_stop_tokens_are_the_tokenizers_and_the_generation_configs() -> None:
    assert stop_token_ids(TOKENIZER, [0, 2]) == (2, 0)
    assert stop_token_ids(TOKENIZER, None) == (2,)
