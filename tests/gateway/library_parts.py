"""Pieces of a library for its tests; no fixture, no test."""

import asyncio
import json
from pathlib import Path
from typing import Any

from redis.exceptions import ConnectionError as RedisConnectionError

from gateway import library
from gateway.database import Database
from gateway.library import LibraryItem, get_library_item
from shared.storage import Storage, atomic_directory

HUB_MODEL = "Qwen/Qwen2.5-0.5B-Instruct"


class FakeQueue:
    """Jobs in a dict; may be out of reach."""

    def __init__(self) -> None:
        self.jobs: dict[str, dict[str, Any]] = {}
        self.away = False

    async def enqueue(self, function: str, job_id: str, payload: dict[str, Any]) -> bool:
        if self.away:
            raise RedisConnectionError("away")
        self.jobs[job_id] = {"function": function} | payload
        return True

    async def holds(self, job_id: str) -> bool:
        if self.away:
            raise RedisConnectionError("away")
        return job_id in self.jobs


def model_folder(root: Path, name: str = "mine", **config: Any) -> Path:
    folder = root / name
    folder.mkdir(parents=True, exist_ok=True)
    facts = {
        "model_type": "llama",
        "architectures": ["LlamaForCausalLM"],
        "max_position_embeddings": 512,
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "intermediate_size": 64,
        "vocab_size": 259,
        "tie_word_embeddings": True,
    }
    (folder / "config.json").write_text(json.dumps(facts | config))
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "ByT5Tokenizer"}')
    (folder / "model.safetensors").write_bytes(b"weights")
    return folder


def item(database: Database, storage: Storage, model_id: str, owner: str = "me") -> LibraryItem:
    return get_library_item(database=database, storage=storage, owner=owner, model_id=model_id)


def prepare(database: Database, storage: Storage, queue: FakeQueue, model_id: str) -> LibraryItem:
    return asyncio.run(
        library.prepare(
            database=database, storage=storage, queue=queue, owner="me", model_id=model_id
        )
    )


def settle(database: Database, storage: Storage, queue: FakeQueue) -> None:
    asyncio.run(library.settle_preparations(database=database, storage=storage, queue=queue))


def put_prepared(storage: Storage, model_id: str) -> None:
    with atomic_directory(storage.base_model(model_id)) as folder:
        (folder / "model.safetensors").write_bytes(b"weights")
