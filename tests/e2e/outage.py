"""The last act of `migration.py`: the service LLM is killed in the middle of its sentences."""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.e2e.migration_parts import LONG_SECONDS, Figures, Own, Scene

KILLED_STREAMS = 6


def survive(own: Own, scene: Scene, figures: Figures, service_process: int) -> None:
    """The service LLM is killed while it speaks, and nobody sees an error."""
    own.ask(
        "POST",
        "/api/routes",
        json={"name": "talk", "targets": [{"upstream": "service"}], "fallbacks": ["mine"]},
    )
    speaking = threading.Event()

    def stream(model: str) -> tuple[str, str | None]:
        text, ended = "", None
        chunks = own.openai.chat.completions.create(
            model=model,
            messages=[{"role": "user", "content": "Tell me a long story of the sea."}],
            max_tokens=scene.talk_tokens,
            temperature=0,
            stream=True,
        )
        for chunk in chunks:
            for choice in chunk.choices:
                text += choice.delta.content or ""
                ended = choice.finish_reason or ended
            if text and model == "talk":
                speaking.set()
        return text, ended

    with ThreadPoolExecutor(2 * KILLED_STREAMS) as pool:
        told = [pool.submit(stream, model) for model in ("talk", "draw") * KILLED_STREAMS]
        assert speaking.wait(LONG_SECONDS)
        kill_with_children(service_process)
        ends = []
        for one in told:
            try:
                ends.append(one.result())
            except Exception:
                figures.errors += 1
    figures.streams = len(told)
    figures.errors += sum(ended is None or not text for text, ended in ends)
    summary = own.ask("GET", "/api/requests/summary", params={"route": "talk"})
    figures.continued = summary["continued"] + summary["fallbacks"]
    # And afterwards.
    for model in ("talk", "draw"):
        text, ended = stream(model)
        figures.errors += ended is None or not text


def kill_with_children(process_id: int) -> None:
    """As if its machine had lost power."""
    family = list(_family(process_id))
    for member in family:
        with contextlib.suppress(ProcessLookupError):
            os.kill(member, signal.SIGKILL)


def _family(process_id: int) -> Iterator[int]:
    yield process_id
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{process_id}/task").iterdir():
            for child in (task / "children").read_text().split():
                yield from _family(int(child))
