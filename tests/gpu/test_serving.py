"""The inference engine on a GPU says what `generate` says, and what was learned on one."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from inference_service.engine.base_model import load_base_model
from inference_service.engine.engine import Engine
from inference_service.engine.lora import load_adapter
from inference_service.engine.requests import GenerationRequest
from shared.datasets import Record
from shared.prompt_template import PromptTemplate
from shared.storage import Storage
from tests.inference_service.adapters import save_adapter
from tests.inference_service.engine.generating import Recorder, collect_all, generate_tokens
from tests.inference_service.tiny_families import CAUSAL, SEQ2SEQ, save_family
from tests.trainer_service.families import prepare_family
from tests.trainer_service.recipe import train
from tests.trainer_service.runs import make_job
from trainer_service.hardware import Device
from trainer_service.job_files import WeightedRecords
from trainer_service.modeling import load_tokenizer
from trainer_service.seq2seq_tokenizing import source_tokens
from trainer_service.tokenizing import render

pytestmark = [pytest.mark.gpu, pytest.mark.anyio]

TEXTS = ("Hi", "A longer prompt, with more words in it.", "so " * 20, "é?", "12345 67890")
PAIRS = [Record.from_pair(f"{a}{b}", f"{b}{a}{a}") for a in "abcdefgh" for b in "1234"]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def engine() -> Iterator[Engine]:
    engine = Engine(max_rows=8)
    engine.start()
    yield engine
    engine.close()


@pytest.mark.parametrize("name", [*CAUSAL, *SEQ2SEQ])
async def test_tokens_are_those_of_generate_on_a_cpu(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """In fp32, in which neither sums in another order: with and without adapters, in one batch."""
    save_family(tmp_path / "model", name)
    base = load_base_model(tmp_path / "model", name, "fp32")
    assert base.device.type == "cuda"
    folders: list[Path | None] = [None]
    for seed in (1, 2):
        folders.append(tmp_path / f"adapter-{seed}")
        save_adapter(tmp_path / f"adapter-{seed}", tmp_path / "model", rank=4 * seed, seed=seed)
    adapters = [None if path is None else load_adapter(path, base.projections) for path in folders]
    requests, used = [], []
    for place, text in enumerate(TEXTS):
        for adapter, folder in zip(adapters, folders, strict=True):
            ids = base.codec.encode(text, special=True)
            stops = frozenset(base.stop_token_ids)
            requests.append(
                GenerationRequest(base, ids, 8 + 3 * place, adapter, stop_token_ids=stops)
            )
            used.append(folder)
    expected = generate_tokens(tmp_path / "model", requests, used)
    assert len({tuple(tokens) for tokens in expected}) == len(expected)
    recorder = Recorder(monkeypatch)
    await collect_all(engine, requests)
    assert recorder.of(requests) == expected


@pytest.mark.parametrize(("name", "method"), [("llama", "full"), ("llama", "lora"), ("t5", "full")])
async def test_what_was_learned_in_bf16_is_said_in_bf16(
    engine: Engine, gpu: Device, storage: Storage, name: str, method: str
) -> None:
    """From the first step to the answer on the GPU. Rows known by heart leave no two tokens near
    to each other."""
    prepare_family(storage, name)
    job = make_job(
        storage, base_model=f"tests/{name}", method=method, max_steps=400, lora_r=32,
        learning_rate=5e-3, per_device_train_batch_size=16,
        warmup_ratio=0.1, validation_split=0,
    )  # fmt: skip
    train(replace(job, datasets=(WeightedRecords(PAIRS),)), device=gpu)
    folder = storage.base_model(f"tests/{name}")
    base = load_base_model(job.result if method == "full" else folder, name, "auto")
    assert (base.device.type, base.precision) == ("cuda", "bf16")
    adapter = None if method == "full" else load_adapter(job.result, base.projections)
    template, tokenizer = PromptTemplate.load(job.result), load_tokenizer(folder)
    requests = [
        GenerationRequest(
            base, asked(template, tokenizer, record), 12, adapter,
            stop_token_ids=frozenset(template.stop_token_ids),
        )
        for record in PAIRS
    ]  # fmt: skip
    answers = await collect_all(engine, requests)
    exact = sum(a == record.completion for a, record in zip(answers, PAIRS, strict=True))
    assert exact >= 0.9 * len(PAIRS)


def asked(template: PromptTemplate, tokenizer: Any, record: Record) -> tuple[int, ...]:
    messages = template.prepare(record.prompt)
    if template.family == "seq2seq":
        return source_tokens(tokenizer, messages[0].content, max_length=512)[0]
    text = render(tokenizer, template, messages, ask=True)
    return tuple(tokenizer.encode(text, add_special_tokens=False))
