"""From an OpenAI-shaped request to a stream of the engine; knows no HTTP and no JSON."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

from inference_service.engine.engine import Engine
from inference_service.engine.likelihood import LikelihoodRequest
from inference_service.engine.prompts import encode_chat, encode_text
from inference_service.engine.requests import Chunk, GenerationRequest, Sampling
from inference_service.model_manager import Weights
from shared.chat import CompletionRequest, GenerationParameters
from shared.datasets import Message
from shared.errors import InvalidRequest

DEFAULT_NEW_TOKENS = 512


def build_request(
    weights: Weights,
    prompt_ids: tuple[int, ...],
    parameters: GenerationParameters,
    *,
    continues: bool = False,
) -> GenerationRequest:
    """The engine's request: open parameters get the model's own defaults, limits what fits."""
    base, template = weights.base, weights.template
    room = base.answer_room(len(prompt_ids))
    temperature, top_p = parameters.temperature, parameters.top_p
    return GenerationRequest(
        base=base,
        adapter=weights.adapter,
        prompt_ids=prompt_ids,
        max_new_tokens=min(parameters.new_token_limit or DEFAULT_NEW_TOKENS, room),
        sampling=Sampling(
            temperature=base.default_temperature if temperature is None else temperature,
            top_p=base.default_top_p if top_p is None else top_p,
            top_k=parameters.top_k or 0,
            seed=parameters.seed,
        ),
        stop_strings=parameters.stop_strings,
        stop_token_ids=frozenset(template.stop_token_ids if template else base.stop_token_ids),
        continues=continues,
    )


async def stream_chat(
    engine: Engine,
    weights: Weights,
    messages: tuple[Message, ...],
    parameters: GenerationParameters,
    begun: str = "",
) -> AsyncGenerator[Chunk, None]:
    """The assistant's next turn, or the rest of it behind what is ``begun``."""
    ids = await asyncio.to_thread(encode_chat, weights.base, weights.template, messages, begun)
    request = build_request(weights, ids, parameters, continues=bool(begun))
    async with aclosing(engine.stream(request)) as chunks:
        async for chunk in chunks:
            yield chunk


def likelihood_request(
    weights: Weights, messages: tuple[Message, ...], answer: str
) -> LikelihoodRequest:
    """The tokens of an answer as the model would have to write them behind the messages."""
    base, template = weights.base, weights.template
    prompt = encode_chat(base, template, messages)
    ends = template.stop_token_ids if template else base.stop_token_ids
    if base.family == "seq2seq":
        written = base.codec.encode(answer, special=False)
    else:
        whole = encode_chat(base, template, messages, answer)
        # A tokenizer may join the prompt's last letters with the answer's first ones.
        same = (a == b for a, b in zip(prompt, whole, strict=False))
        shared = next((place for place, equal in enumerate(same) if not equal), len(prompt))
        prompt, written = whole[:shared], whole[shared:]
    if len(written) >= base.answer_room(len(prompt)):
        raise InvalidRequest(
            f"The answer has {len(written)} tokens, for which {base.id} has no room.",
            code="context_length_exceeded",
            param="answer",
        )
    return LikelihoodRequest(base, weights.adapter, prompt, (*written, ends[0]))


async def stream_completion(
    engine: Engine, weights: Weights, request: CompletionRequest
) -> AsyncGenerator[Chunk, None]:
    """What follows a raw text."""
    ids = await asyncio.to_thread(encode_text, weights.base, request.prompt)
    async with aclosing(engine.stream(build_request(weights, ids, request))) as chunks:
        async for chunk in chunks:
            yield chunk
