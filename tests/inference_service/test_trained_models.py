"""From the trainer's hands into the engine's: what was learned is what is answered in a chat."""

import asyncio
from pathlib import Path

import pytest

from inference_service.engine.engine import Engine
from inference_service.generation import stream_chat
from inference_service.model_manager import ModelManager
from shared.chat import GenerationParameters, ModelRef
from shared.datasets import Record
from shared.storage import Storage, atomic_directory
from tests.inference_service.test_model_manager import manager_of
from tests.trainer_service.test_architectures import PAIRS, answers, learn, make_training, reload
from trainer_service.saving import weights_writer

pytestmark = pytest.mark.anyio


async def served_answers(manager: ModelManager, engine: Engine, records: list[Record]) -> list[str]:
    async def ask(record: Record) -> str:
        with manager.lease("tuned") as weights:
            greedy = GenerationParameters(model="tuned", max_tokens=8, temperature=0)
            chunks = stream_chat(engine, weights, record.prompt, greedy)
            return "".join([chunk.text async for chunk in chunks])

    return list(await asyncio.gather(*(ask(record) for record in records)))


@pytest.mark.parametrize("name", ["llama", "t5_v1_1", "byt5"])
async def test_a_whole_model_answers_what_it_learned_by_heart(
    engine: Engine, tmp_path: Path, name: str
) -> None:
    storage = Storage(tmp_path)
    training = make_training(
        storage,
        name,
        PAIRS,
        method="full",
        max_steps=300,
        learning_rate=5e-3,
        per_device_train_batch_size=16,
        task_prefix="turn: ",
    )
    learn(training)
    with atomic_directory(storage.run_result("run_1")) as folder:
        weights_writer(training)(folder)
    manager = manager_of(storage, engine)
    await manager.put("tuned", ModelRef(base_model=f"tests/{name}", run_id="run_1"))
    said = await served_answers(manager, engine, PAIRS)
    assert said == answers(reload(storage.run_result("run_1"), training), training, PAIRS)
    exact = sum(text == record.completion for text, record in zip(said, PAIRS, strict=True))
    assert exact >= 0.9 * len(PAIRS)


@pytest.mark.parametrize("name", ["t5", "byt5"])
async def test_an_adapter_answers_as_it_did_in_training(
    engine: Engine, tmp_path: Path, name: str
) -> None:
    storage = Storage(tmp_path)
    training = make_training(
        storage, name, PAIRS, method="lora", max_steps=100, learning_rate=5e-3, task_prefix="turn: "
    )
    learn(training)
    with atomic_directory(storage.run_result("run_1")) as folder:
        weights_writer(training)(folder)
    manager = manager_of(storage, engine)
    await manager.put("tuned", ModelRef(base_model=f"tests/{name}", run_id="run_1"))
    said = await served_answers(manager, engine, PAIRS[::4])
    assert said == answers(training.model, training, PAIRS[::4])
    assert len(set(said)) > 1
