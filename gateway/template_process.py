"""Renders chat templates in a process of its own: a template is a program that came with a model,
and may want to compute for ever or fill the memory. The process may do neither, and knows nothing.

Run as ``python -m gateway.template_process``: one request as JSON in, its answer as JSON out.
"""

import contextlib
import json
import logging
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jinja2

from gateway.chat_templates import ChatTemplate

log = logging.getLogger(__name__)

CPU_SECONDS = 2
WALL_SECONDS = 10
MEMORY_BYTES = 512 * 1024 * 1024
MAX_CHARACTERS = 4_000_000
# What Python needs to start and to find GenPlat; no secret is among them.
_ENVIRONMENT = ("PATH", "PYTHONPATH", "PYTHONSAFEPATH", "LD_LIBRARY_PATH", "SYSTEMROOT")


@dataclass(frozen=True)
class Conversation:
    """``turns`` as role and content; ``prompts``: how many of them, and whether an answer is to
    follow, for each text that is wanted."""

    turns: tuple[tuple[str, str], ...]
    prompts: tuple[tuple[int, bool], ...]


def render_apart(
    template: ChatTemplate, conversations: Sequence[Conversation]
) -> list[list[str] | None]:
    """The texts of each conversation; None where the template refuses it, or is refused."""
    asked = {
        "source": template.source,
        "tokens": template.tokens,
        "conversations": [[one.turns, one.prompts] for one in conversations],
    }
    try:
        done = subprocess.run(
            [sys.executable, "-m", "gateway.template_process"],
            input=json.dumps(asked).encode(),
            env={name: os.environ[name] for name in _ENVIRONMENT if name in os.environ},
            capture_output=True,
            timeout=WALL_SECONDS,
            check=True,
        )
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        log.warning("A chat template took too much time or memory: %s", error)
        return [None] * len(conversations)
    texts: list[list[str] | None] = json.loads(done.stdout)
    return texts


def _limit() -> None:
    # Windows has no such limits; there, the time is all that holds a template.
    with contextlib.suppress(ImportError):
        import resource

        resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
        # macOS knows this one and refuses to set it.
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))


def _answer(asked: dict[str, Any]) -> list[list[str] | None]:
    template = ChatTemplate(asked["source"], tuple((name, text) for name, text in asked["tokens"]))
    answer: list[list[str] | None] = []
    left = MAX_CHARACTERS
    for turns, prompts in asked["conversations"]:
        messages = [{"role": role, "content": content} for role, content in turns]
        texts: list[str] | None
        try:
            texts = [
                template.render(messages[:count], add_generation_prompt=follows)
                for count, follows in prompts
            ]
        except jinja2.TemplateError:
            texts = None
        left -= sum(map(len, texts or ()))
        answer.append(texts if left >= 0 else None)
    return answer


if __name__ == "__main__":
    _limit()
    json.dump(_answer(json.load(sys.stdin)), sys.stdout)
