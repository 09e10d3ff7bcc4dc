"""The real bundled model: loads fast, and answers as transformers' own `generate` does."""

import time
from pathlib import Path

import pytest
import torch

from inference_service.engine.base_model import BaseModel, load_base_model
from inference_service.engine.engine import Engine
from inference_service.engine.prompts import encode_chat
from inference_service.engine.requests import GenerationRequest
from shared.datasets import Message
from shared.model_library import BUNDLED_MODEL
from shared.storage import Storage
from tests.inference_service.engine.generating import collect_all, generate
from trainer_service.base_models import prepare_base_model

pytestmark = [pytest.mark.slow, pytest.mark.anyio, pytest.mark.timeout(600)]

QUESTIONS = ("What is 2 + 2?", "Name three birds of Europe.", "Write a haiku about the sea.")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepare_base_model(Storage(tmp_path_factory.mktemp("data")), BUNDLED_MODEL)


@pytest.fixture
def base(folder: Path) -> BaseModel:
    torch.set_num_threads(2)
    return load_base_model(folder, BUNDLED_MODEL, "auto")


async def test_a_mixed_batch_answers_as_generate_does(
    engine: Engine, base: BaseModel, folder: Path
) -> None:
    requests = [
        GenerationRequest(
            base,
            encode_chat(base, None, (Message(role="user", content=question),)),
            max_new_tokens=24,
            stop_token_ids=frozenset(base.stop_token_ids),
        )
        for question in QUESTIONS
    ]
    texts = await collect_all(engine, requests)
    assert texts == [generate(folder, base, request, None) for request in requests]


def test_a_prepared_model_is_there_in_seconds(base: BaseModel, folder: Path) -> None:
    started = time.perf_counter()
    again = load_base_model(folder, BUNDLED_MODEL, "auto")
    # Under 2 s on an idle machine; the limit leaves room for a busy one.
    assert time.perf_counter() - started < 10
    assert again.precision == base.precision


async def test_an_answer_that_was_begun_goes_on_as_if_it_had_not_been_cut(
    engine: Engine, base: BaseModel
) -> None:
    asked = (Message(role="user", content=QUESTIONS[0]),)

    def request(begun: str, tokens: int) -> GenerationRequest:
        return GenerationRequest(
            base,
            encode_chat(base, None, asked, begun),
            max_new_tokens=tokens,
            stop_token_ids=frozenset(base.stop_token_ids),
            continues=bool(begun),
        )

    (whole,) = await collect_all(engine, [request("", 40)])
    words = whole.split(" ")
    assert len(words) > 6
    for cut in (1, 3, 6):
        begun = " ".join(words[:cut])
        (rest,) = await collect_all(engine, [request(begun, 24)])
        assert (begun + rest)[: len(begun) + 30] == whole[: len(begun) + 30]
        assert rest.startswith(" ")
