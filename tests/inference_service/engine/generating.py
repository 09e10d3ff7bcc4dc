"""Asking an engine, and asking transformers for the same."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from inference_service.engine.base_model import BaseModel
from inference_service.engine.engine import Engine
from inference_service.engine.kv_cache import LENGTH_STEP, SlotCache
from inference_service.engine.requests import Chunk, GenerationRequest
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
    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    if adapter is not None:
        with quiet_peft():
            model = PeftModel.from_pretrained(model, adapter)
    ids = torch.tensor([request.prompt_ids])
    with torch.inference_mode():
        output = model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=request.max_new_tokens,
            do_sample=False,
            eos_token_id=sorted(request.stop_token_ids) or None,
            pad_token_id=0,
        )
    text: str = base.tokenizer.decode(output[0, ids.shape[1] :], skip_special_tokens=True)
    return text
