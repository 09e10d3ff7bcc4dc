"""How likely a model holds an answer: what transformers and PEFT say of the same tokens."""

import asyncio
from pathlib import Path

import pytest
import torch

from inference_service.engine.base_model import BaseModel
from inference_service.engine.engine import Engine
from inference_service.engine.likelihood import PIECE, LikelihoodRequest
from inference_service.engine.lora import Adapter
from inference_service.engine.requests import GenerationRequest
from shared.errors import Unavailable
from shared.storage import Storage
from tests.inference_service.engine.generating import collect, load_as_transformers, prompt
from tests.inference_service.tiny_families import TINY_BYT5

pytestmark = pytest.mark.anyio


@torch.inference_mode()
def in_transformers(folder: Path, request: LikelihoodRequest, adapter: Path | None) -> float:
    model = load_as_transformers(folder, adapter)
    asked, answer = list(request.prompt_ids), list(request.answer_ids)
    if request.base.family == "seq2seq":
        start = int(model.config.decoder_start_token_id)
        logits = model(
            input_ids=torch.tensor([asked]), decoder_input_ids=torch.tensor([[start, *answer[:-1]]])
        ).logits[0]
    else:
        logits = model(input_ids=torch.tensor([asked + answer])).logits[0, len(asked) - 1 : -1]
    chosen = torch.log_softmax(logits.double(), dim=-1)
    return float(chosen.gather(1, torch.tensor(answer)[:, None]).sum())


@pytest.mark.parametrize("asked", [1, PIECE - 1, PIECE, PIECE + 1])
@pytest.mark.parametrize("answered", [1, PIECE + 7])
async def test_a_decoder_says_what_transformers_says(
    engine: Engine, base: BaseModel, model_folder: Path, asked: int, answered: int
) -> None:
    ids = prompt(base, "How likely is all of this? " * 30)
    request = LikelihoodRequest(base, None, ids[:asked], ids[7 : 7 + answered])
    wanted = in_transformers(model_folder, request, None)
    assert await engine.log_likelihood(request) == pytest.approx(wanted, rel=1e-4)


async def test_adapters_and_running_streams_do_not_mix(
    engine: Engine,
    base: BaseModel,
    model_folder: Path,
    adapters: dict[str, Adapter],
    storage: Storage,
) -> None:
    ids = prompt(base, "Many things at once, and each with its own weights. " * 6)
    requests = {
        name: LikelihoodRequest(base, adapters.get(name), ids[:150], ids[20:200])
        for name in ("none", *adapters)
    }
    alone, _ = await collect(engine, GenerationRequest(base, ids[:30], 30))
    stream = collect(engine, GenerationRequest(base, ids[:30], 30))
    *found, (text, _) = await asyncio.gather(
        *(engine.log_likelihood(request) for request in requests.values()), stream
    )
    assert text == alone
    wanted = [
        in_transformers(
            model_folder, request, storage.run_result(name) if name in adapters else None
        )
        for name, request in requests.items()
    ]
    assert found == pytest.approx(wanted, rel=1e-4)
    assert len({round(one, 3) for one in found}) == len(found)


async def test_an_encoder_decoder_says_what_transformers_says(
    engine: Engine, byt5: BaseModel, paired: Storage
) -> None:
    request = LikelihoodRequest(
        byt5, None, prompt(byt5, "A source"), (*byt5.codec.encode("An answer", special=False), 1)
    )
    wanted = in_transformers(paired.base_model(TINY_BYT5), request, None)
    assert await engine.log_likelihood(request) == pytest.approx(wanted, rel=1e-4)


async def test_a_closed_engine_leaves_nobody_waiting(base: BaseModel) -> None:
    engine = Engine()
    engine.start()
    ids = prompt(base, "Wait for me. " * 60)
    waiting = [
        asyncio.create_task(engine.log_likelihood(LikelihoodRequest(base, None, ids, ids)))
        for _ in range(20)
    ]
    await asyncio.sleep(0)
    await asyncio.to_thread(engine.close)
    outcomes = await asyncio.gather(*waiting, return_exceptions=True)
    assert any(isinstance(one, Unavailable) for one in outcomes)
    assert all(isinstance(one, Unavailable | float) for one in outcomes)
