"""One answer as it is asked for: whatever a service sends, there is a reply that can be stored."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.evaluations.asking import Reply, Sampling, ask
from shared.chat import Likelihood
from shared.errors import InvalidRequest, UpstreamFailed
from tests.gateway.parts import asynchronous

ODD = "odd \x00 and \ud83d half"
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=5) | st.integers(),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(
            st.sampled_from(["message", "content", "finish_reason", "prompt_tokens"]), inner
        )
    ),
    max_leaves=5,
)


class Says:
    """Somebody who answers what a function returns, and is counted."""

    def __init__(self, answer: Callable[[], dict[str, Any]]) -> None:
        self._answer, self.asked = answer, 0

    async def answer(self, body: dict[str, Any]) -> tuple[dict[str, Any], str]:
        self.asked += 1
        return self._answer(), "somebody"

    async def likelihood(self, messages: Any, answer: str) -> Likelihood | None:
        return None

    async def renders(self, source: str) -> bool:
        return False


async def replied(asker: Says) -> Reply:
    sampling = Sampling(max_tokens=9, temperature=0, top_p=None, seed=1)
    return await ask(asker, messages=[], references=["x"], sampling=sampling, metrics=["bleu"])


def is_storable(reply: Reply) -> bool:
    texts = (reply.text, reply.finish_reason, reply.error or "")
    counts = (reply.prompt_tokens, reply.completion_tokens)
    for text in texts:
        text.encode()
    return not any("\x00" in text for text in texts) and all(0 <= n < 2**31 for n in counts)


@given(choice=ANYTHING, usage=ANYTHING)
def test_no_answer_is_too_odd(choice: Any, usage: Any) -> None:
    async def once() -> None:
        assert is_storable(await replied(Says(lambda: {"choices": [choice], "usage": usage})))

    asynchronous(once)()


@asynchronous
async def test_what_is_no_answer_is_asked_for_again_and_then_missing() -> None:
    asker = Says(lambda: {"choices": ["hello"]})
    reply = await replied(asker)
    assert asker.asked == 3 and reply.error is not None and not reply.refused


@asynchronous
async def test_an_answer_without_usage_is_one() -> None:
    choice = {"message": {"content": ODD}, "finish_reason": "stop\x00"}
    reply = await replied(Says(lambda: {"choices": [choice], "usage": {"prompt_tokens": 1e300}}))
    assert (reply.text, reply.prompt_tokens, reply.error) == ("odd \ufffd and ? half", 0, None)
    assert reply.finish_reason == "stop\ufffd"


@pytest.mark.parametrize("kind", [InvalidRequest, UpstreamFailed])
@asynchronous
async def test_what_a_service_says_of_its_refusal_can_be_stored(
    kind: type[InvalidRequest | UpstreamFailed],
) -> None:
    def refuse() -> dict[str, Any]:
        raise kind(ODD)

    reply = await replied(Says(refuse))
    assert reply.error == "odd \ufffd and ? half" and is_storable(reply)
    assert reply.refused is (kind is InvalidRequest)
