"""What a service LLM may send is read as far as it says something."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.answers import Answered, read_answer

WHOLE = {
    "id": "chatcmpl-1",
    "choices": [{"message": {"content": "Hi"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 3, "completion_tokens": 4},
}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["choices", "message", "usage", "diagram", "content", "rendered", "id"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=20,
)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (WHOLE, Answered("Hi", "chatcmpl-1", 3, 4, "stop")),
        ({"choices": [{"text": "on", "finish_reason": None}]}, Answered("on")),
        ({"choices": [{"message": {"content": None, "tool_calls": []}}]}, Answered()),
        ({"choices": [{"message": {"diagram": {"rendered": False}}}]}, Answered(rendered=False)),
        ({"choices": [], "usage": None}, Answered()),
        ({"choices": [7], "usage": {"prompt_tokens": True}}, Answered()),
        ({"usage": {"prompt_tokens": 2**31, "completion_tokens": -1}}, Answered()),
    ],
)
def test_what_is_read(answer: dict[str, Any], said: Answered) -> None:
    assert read_answer(answer) == said


@given(st.dictionaries(st.sampled_from(["choices", "usage", "id"]), JSON))
def test_whatever_comes_is_read(answer: dict[str, Any]) -> None:
    said = read_answer(answer)
    assert json.dumps(vars(said))
