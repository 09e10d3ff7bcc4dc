"""Every form of a row: what it becomes, which of it is learned, and what is refused in it."""

import json
from pathlib import Path
from typing import Any

import pytest

from shared.datasets import read_records
from shared.errors import GenPlatError, InvalidData
from tests.gateway.datasets.checking import Check, assert_says


def jsonl(*rows: dict[str, Any]) -> bytes:
    return "\n".join(json.dumps(row) for row in rows).encode()


A, B = {"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}
PAIR = [("user", "a", False), ("assistant", "b", True)]
WITH_SYSTEM = [("system", "s", False), *PAIR]
FORMS = {
    "text/target": ({"text": "a", "target": "b"}, "text/target", PAIR),
    "prompt/completion": ({"prompt": "a", "completion": "b"}, "prompt/completion", PAIR),
    "prompt/response": ({"prompt": "a", "response": "b"}, "prompt/response", PAIR),
    "question/answer": ({"question": "a", "answer": "b"}, "question/answer", PAIR),
    "H2O": ({"system": "s", "prompt": "a", "answer": "b"}, "prompt/answer", WITH_SYSTEM),
    "system prompt": (
        {"system_prompt": "s", "question": "a", "response": "b"}, "question/response", WITH_SYSTEM,
    ),
    "system prompt, blank": (
        {"system_prompt": " ", "question": "a", "response": "b"}, "question/response", PAIR,
    ),
    "batch output": (
        {"instructions": "a", "target_responses": "b", "candidate_responses": "c",
         "model_id": "m", "model_sha": "f00"}, "instructions/target_responses", PAIR,
    ),
    "alpaca": ({"instruction": "a", "input": "", "output": "b"}, "alpaca", PAIR),
    "alpaca without input": ({"instruction": "a", "output": "b"}, "alpaca", PAIR),
    "alpaca with null": ({"instruction": "a", "input": None, "output": "b"}, "alpaca", PAIR),
    "alpaca with all": (
        {"system": "s", "instruction": "a", "input": "i", "output": "b",
         "history": [["q", "r"], ["t", "u"]]},
        "alpaca",
        [("system", "s", False), ("user", "q", False), ("assistant", "r", True),
         ("user", "t", False), ("assistant", "u", True), ("user", "a\ni", False),
         ("assistant", "b", True)],
    ),
    "dolly": (
        {"instruction": "a", "context": "i", "response": "b"}, "instruction/response",
        [("user", "a\ni", False), ("assistant", "b", True)],
    ),
    "sharegpt": (
        {"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]},
        "sharegpt", PAIR,
    ),
    "sharegpt with a system column": (
        {"system": "s", "tools": "",
         "conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]},
        "sharegpt", WITH_SYSTEM,
    ),
    "sharegpt with a system turn": (
        {"system": "unused", "conversations": [
            {"from": "system", "value": "s"}, {"from": "human", "value": "a"},
            {"from": "gpt", "value": "b"}]},
        "sharegpt", WITH_SYSTEM,
    ),
    "sharegpt with weights": (
        {"conversations": [
            {"from": "human", "value": "a"}, {"from": "gpt", "value": "x", "weight": 0},
            {"from": "human", "value": "a"}, {"from": "gpt", "value": "b", "weight": 1.0}]},
        "sharegpt",
        [("user", "a", False), ("assistant", "x", False), *PAIR],
    ),
    "conversations by role": ({"conversations": [A, B]}, "sharegpt", PAIR),
    "messages": ({"messages": [A, B]}, "messages", PAIR),
    "messages of a developer": (
        {"messages": [{"role": "developer", "content": "s"}, A, B]}, "messages", WITH_SYSTEM,
    ),
    "messages as Parquet fills them": (
        {"messages": [A | {"tool_calls": None, "weight": None, "name": None}, B]}, "messages", PAIR,
    ),
    "lists": ({"prompt": [A], "completion": [B]}, "prompt/completion", PAIR),
    "a list and a text": ({"prompt": [A], "completion": "b"}, "prompt/completion", PAIR),
    # What comes before the completion is context and not learned.
    "a conversation as prompt": (
        {"prompt": [A, {"role": "assistant", "content": "x"}, A], "completion": [B]},
        "prompt/completion", [("user", "a", False), ("assistant", "x", False), *PAIR],
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", FORMS)
def test_a_form(check: Check, turns: Any, case: str) -> None:
    row, name, expected = FORMS[case]
    assert turns(jsonl(row), "x.jsonl") == [expected]
    assert check(jsonl(row), "x.jsonl").format == name
    # The same rows as a JSON document.
    assert turns(json.dumps({"data": [row, row]}).encode(), "x.json") == [expected] * 2


PLAIN = [
    case for case, (row, _, _) in FORMS.items()
    if all(isinstance(value, str) for value in row.values())
    and "sharegpt" not in case
]  # fmt: skip


@pytest.mark.parametrize("case", PLAIN)
def test_plain_forms_come_as_csv_too(turns: Any, case: str) -> None:
    row, _, expected = FORMS[case]
    content = f"{','.join(row)}\n{','.join(row.values())}\n"
    assert turns(content.encode(), "x.csv") == [expected]


WRONG = {
    "a tool's call": (
        {"messages": [A, B | {"content": None, "tool_calls": [{"id": "1"}]}]},
        "bad_messages", "messages[1] calls a tool, which cannot be learned yet.",
    ),
    "ShareGPT's call": (
        {"conversations": [{"from": "human", "value": "a"}, {"from": "observation", "value": "x"}]},
        "bad_messages", "conversations[1] calls a tool, which cannot be learned yet.",
    ),
    "an unknown speaker": (
        {"conversations": [{"from": "bard", "value": "a"}, {"from": "gpt", "value": "b"}]},
        "bad_messages", "conversations[0] must be from human, gpt or system.",
    ),
    "human last": (
        {"conversations": [{"from": "gpt", "value": "b"}, {"from": "human", "value": "a"}]},
        "bad_messages", "the last message must be the assistant's.",
    ),
    "no value": (
        {"conversations": [{"from": "human"}, {"from": "gpt", "value": "b"}]},
        "not_text", "conversations[0].value must be a text in double quotes.",
    ),
    "conversations are no list": (
        {"conversations": "a"}, "bad_messages", "conversations must be a list",
    ),
    "empty completion": (
        {"prompt": [A], "completion": []}, "bad_messages", "completion must be a list of 1 to",
    ),
    "a user's completion": (
        {"prompt": [A], "completion": [A]}, "bad_messages", "the last message must be",
    ),
    "lists elsewhere": (
        {"text": [A], "target": [B]}, "not_text", "text must be a text in double quotes.",
    ),
    "no output": ({"instruction": "a", "output": ""}, "blank_cell", "output is blank."),
    "input is a number": (
        {"instruction": "a", "input": 1, "output": "b"}, "not_text", "input must be a text",
    ),
    "history is no list of pairs": (
        {"instruction": "a", "output": "b", "history": [["q"]]},
        "bad_history", "history must be a list of [question, answer] pairs.",
    ),
    "a blank in the history": (
        {"instruction": "a", "output": "b", "history": [["q", ""]]},
        "blank_cell", "history[0][1] is blank.",
    ),
    "system is a number": (
        {"prompt": "a", "completion": "b", "system": 1}, "not_text", "system must be a text",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_row(check: Check, case: str) -> None:
    row, code, said = WRONG[case]
    with pytest.raises(InvalidData) as refused:
        check(jsonl(row), "x.jsonl")
    assert_says(refused.value, code, 1)
    assert refused.value.details[0]["message"].startswith(said)


def test_a_system_column_can_be_named(check: Check, turns: Any) -> None:
    content = b"q,a,n\na,b,s\na,b,\n"
    named = {"text_column": "q", "target_column": "a", "system_column": "n"}
    assert turns(content, "x.csv", **named) == [WITH_SYSTEM, PAIR]
    assert check(content, **named).mapping == named
    # With a form that is recognised, it stands alone.
    row = {"prompt": "a", "completion": "b", "n": "s"}
    assert turns(jsonl(row), "x.jsonl", system_column="n") == [WITH_SYSTEM]
    assert turns(jsonl({"messages": [A, B], "n": "s"}), "x.jsonl", system_column="n") == [
        WITH_SYSTEM
    ]
    with pytest.raises(InvalidData, match="no column 'z'"):
        check(content, **(named | {"system_column": "z"}))
    with pytest.raises(GenPlatError, match="another column"):
        check(content, **(named | {"system_column": "a"}))


def test_the_mapping_tells_which_column_is_what(check: Check) -> None:
    assert check(b"prompt,completion,n\na,b,c\n").mapping == {
        "text_column": "prompt", "target_column": "completion",
    }  # fmt: skip
    alpaca = check(b"instruction,input,output,system\na,b,c,d\n")
    assert alpaca.mapping == {
        "text_column": "instruction", "input_column": "input", "target_column": "output",
        "system_column": "system",
    }  # fmt: skip
    assert " ".join(alpaca.warnings).count("not used") == 0


def test_messages(check: Check, tmp_path: Path) -> None:
    checked = check(
        b'{"messages":[{"role":"system","content":"s"},{"role":"user","content":'
        b'[{"type":"text","text":"a"},{"type":"text","text":"b"}]},'
        b'{"role":"assistant","content":"no","weight":0},{"role":"user","content":"c"},'
        b'{"role":"assistant","content":"yes","weight":1}]}',
        "x.jsonl",
    )
    assert (checked.format, checked.file_type) == ("messages", "jsonl")
    (record,) = read_records(tmp_path / "records.jsonl")
    assert [message.content for message in record.messages] == ["s", "ab", "no", "c", "yes"]
    assert [message.learned for message in record.messages] == [False, False, False, False, True]


def test_a_wrong_message_is_told_once(check: Check) -> None:
    for last, said in (
        ('{"role":"assistant","content":" "}', "messages[1].content is blank."),
        ('{"role":"tool","content":"b"}', "messages[1] must have the role"),
        ('{"role":"assistant","content":"b","weight":2}', "messages[1] has a weight"),
    ):
        line = f'{{"messages":[{{"role":"user","content":"a"}},{last}]}}'
        with pytest.raises(InvalidData) as refused:
            check(line.encode(), "x.jsonl")
        (found,) = refused.value.details
        assert found["message"].startswith(said)


def test_named_columns(check: Check, tmp_path: Path) -> None:
    checked = check(b"q,a,n\nx,y,1\n", text_column="q", target_column="a")
    assert checked.format == "text/target"
    assert next(read_records(tmp_path / "records.jsonl")).completion == "y"
    for columns in ({"text_column": "q"}, {"target_column": "a"}):
        with pytest.raises(GenPlatError, match="go together"):
            check(b"q,a\nx,y\n", **columns)
    with pytest.raises(GenPlatError, match="must differ"):
        check(b"q,a\nx,y\n", text_column="q", target_column="q")
    with pytest.raises(InvalidData, match="no column 'z'") as refused:
        check(b"q,a\nx,y\n", text_column="q", target_column="z")
    assert refused.value.code == "missing_column"
