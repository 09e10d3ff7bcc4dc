"""Encoder-decoders over HTTP with the openai client: base, adapter, whole model, checkpoint."""

import concurrent.futures
from collections.abc import Iterator

import httpx
import openai
import pytest

from shared.storage import Storage
from tests.inference_service.serving import HEADERS, TOKEN, running_server
from tests.inference_service.tiny_families import TINY_BYT5

MODELS: dict[str, dict[str, object]] = {
    "base": {},
    "lora": {"run_id": "run_lora"},
    "full": {"run_id": "run_full"},
    "earlier": {"run_id": "run_full", "checkpoint": 10},
}


@pytest.fixture(scope="module")
def address(paired: Storage) -> Iterator[str]:
    with running_server(paired) as address:
        with httpx.Client(base_url=address, headers=HEADERS, timeout=30) as http:
            for name, ref in MODELS.items():
                loaded = http.put(f"/models/{name}", json={"base_model": TINY_BYT5, **ref}).json()
                assert loaded["state"] == "ready", loaded
                assert loaded["ref"]["checkpoint"] == ref.get("checkpoint")
        yield address


@pytest.fixture
def client(address: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{address}/v1", api_key=TOKEN, max_retries=0) as client:
        yield client


# A random model says nothing to many of them.
TEXTS = ("He go home.", "She go.", "one two three", "é?", "A -> B", "Summarise this, please!")


def chat(client: openai.OpenAI, model: str, text: str) -> str:
    answer = client.chat.completions.create(
        model=model, messages=[{"role": "user", "content": text}], max_tokens=40
    )
    return answer.choices[0].message.content or ""


def test_all_forms_answer_each_in_its_own_way_and_at_once(client: openai.OpenAI) -> None:
    cases = [(model, text) for model in MODELS for text in TEXTS]
    alone = [chat(client, *case) for case in cases]
    by_model = [tuple(alone[place : place + len(TEXTS)]) for place in range(0, 24, len(TEXTS))]
    assert len(set(by_model)) == len(MODELS)
    with concurrent.futures.ThreadPoolExecutor(12) as pool:
        assert list(pool.map(lambda case: chat(client, *case), cases)) == alone


def test_a_stream_says_the_same_and_counts_source_and_answer(client: openai.OpenAI) -> None:
    said = []
    for text in TEXTS:
        chunks = list(
            client.chat.completions.create(
                model="full",
                messages=[{"role": "user", "content": text}],
                max_tokens=40,
                stream=True,
                stream_options={"include_usage": True},
            )
        )
        said.append("".join(c.choices[0].delta.content or "" for c in chunks if c.choices))
        usage = chunks[-1].usage
        assert usage is not None
        # The run's own prefix and the end mark are part of the source.
        assert usage.prompt_tokens == len(f"fix: {text}".encode()) + 1
        assert usage.completion_tokens <= 40
    assert said == [chat(client, "full", text) for text in TEXTS]
    assert any(said)


def test_a_completion_reads_the_raw_text(client: openai.OpenAI) -> None:
    for text in TEXTS:
        answer = client.completions.create(model="full", prompt=f"fix: {text}", max_tokens=40)
        assert answer.choices[0].text == chat(client, "full", text)


def test_a_source_that_is_too_long_is_refused(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        chat(client, "full", "x" * 5000)
    assert caught.value.code == "context_length_exceeded"


def test_a_diagram_is_asked_for_as_of_any_model(address: str) -> None:
    body = {
        "model": "full",
        "messages": [{"role": "user", "content": "A calls B."}],
        "max_tokens": 20,
        "diagram": {"max_attempts": 2},
    }
    answer = httpx.post(f"{address}/v1/chat/completions", json=body, headers=HEADERS, timeout=60)
    diagram = answer.json()["choices"][0]["message"]["diagram"]
    assert (diagram["rendered"], diagram["attempts"]) == (False, 2)
    assert "no complete @startuml" in diagram["error"]["message"]
