"""Asking an engine, and asking transformers for the same."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM

from inference_service.engine.base_model import BaseModel
from inference_service.engine.engine import Engine
from inference_service.engine.kv_cache import LENGTH_STEP, SlotCache
from inference_service.engine.requests import Chunk, GenerationRequest
from inference_service.engine.sequence import Sequence as Running
from tests.inference_service.adapters import quiet_peft


def row_bytes(base: BaseModel) -> int:
    """Bytes of the keys and values of one row of the shortest length."""
    cache = SlotCache(base.model.config, base.dtype, base.device)
    return LENGTH_STEP * cache.bytes_per_token


def prompt(base: BaseModel, text: str) -> tuple[int, ...]:
    return base.codec.encode(text, special=True)


async def collect(engine: Engine, request: GenerationRequest) -> tuple[str, Chunk]:
    """The whole text, and the last chunk."""
    text, last = "", Chunk("", 0)
    async for chunk in engine.stream(request):
        text += chunk.text
        last = chunk
    return text, last


async def collect_all(engine: Engine, requests: Sequence[GenerationRequest]) -> list[str]:
    answers = await asyncio.gather(*(collect(engine, request) for request in requests))
    return [text for text, _ in answers]


def generate(
    folder: Path, base: BaseModel, request: GenerationRequest, adapter: Path | None
) -> str:
    """What transformers' own `generate` says to the request, with PEFT's own adapter."""
    ids = generate_tokens(folder, [request], [adapter])[0]
    text: str = base.tokenizer.decode(ids, skip_special_tokens=True)
    return text


@torch.inference_mode()
def generate_tokens(
    folder: Path, requests: Sequence[GenerationRequest], adapters: Sequence[Path | None]
) -> list[list[int]]:
    """Token ids that `generate` says to each request, without what ends it."""
    models = {adapter: load_as_transformers(folder, adapter) for adapter in set(adapters)}
    answers = []
    for request, adapter in zip(requests, adapters, strict=True):
        ids = torch.tensor([request.prompt_ids])
        output = models[adapter].generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=request.max_new_tokens,
            do_sample=False,
            eos_token_id=sorted(request.stop_token_ids) or None,
            pad_token_id=0,
        )
        start = 1 if request.base.family == "seq2seq" else ids.shape[1]
        tokens = output[0, start:].tolist()
        answers.append(tokens[:-1] if tokens[-1] in request.stop_token_ids else tokens)
    return answers


def load_as_transformers(folder: Path, adapter: Path | None) -> Any:
    seq2seq = AutoConfig.from_pretrained(folder).is_encoder_decoder
    auto: Any = AutoModelForSeq2SeqLM if seq2seq else AutoModelForCausalLM
    model = auto.from_pretrained(folder, dtype=torch.float32)
    if adapter is None:
        return model
    with quiet_peft():
        return PeftModel.from_pretrained(model, adapter)


class Recorder:
    """The tokens that an engine generates, by request."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.tokens: dict[int, list[int]] = {}
        take = Running.take

        def recorded(sequence: Running, token: int) -> Chunk | None:
            said = self.tokens.setdefault(id(sequence.request), [])
            if token not in sequence.request.stop_token_ids:
                said.append(token)
            return take(sequence, token)

        monkeypatch.setattr(Running, "take", recorded)

    def of(self, requests: Sequence[GenerationRequest]) -> list[list[int]]:
        """What was said to each of them; it is forgotten, so that they can be asked again."""
        return [self.tokens.pop(id(request), []) for request in requests]
