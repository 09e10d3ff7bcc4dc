"""Has answers scored in a process of its own (`scoring_process`): counting words of many long texts
takes seconds, during which the gateway must answer others; and texts come from anybody."""

import asyncio
import contextlib
import json
import os
import sys
from typing import Any

from gateway.evaluations.stored import Work
from shared.errors import GenPlatError

# What Python needs to start and to find GenPlat; no secret is among them.
_ENVIRONMENT = ("PATH", "PYTHONPATH", "PYTHONSAFEPATH", "LD_LIBRARY_PATH", "SYSTEMROOT")

Json = dict[str, Any]
# Of each candidate, those of its answers, by the examples' places.
Scores = list[list[Json | None]]


async def score_apart(work: Work) -> tuple[Json, Scores]:
    """What `summarise` says of it. GenPlatError where that came to no end."""
    given = await asyncio.to_thread(_written, work)
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "gateway.evaluations.scoring_process",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        # One thread: others compute on this machine, too.
        env={name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
        | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
    )
    try:
        said, complaint = await process.communicate(given)
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    if process.returncode:
        last = complaint.decode(errors="replace").strip().rpartition("\n")[2][:300]
        raise GenPlatError(
            f"The answers could not be scored: the process ended with {process.returncode}. {last}",
            code="scoring_failed",
        )
    return await asyncio.to_thread(_read, said, len(work.candidates), len(work.examples))


def _written(work: Work) -> bytes:
    """Line by line: one call for all of them would let no other thread do anything."""
    first = {"settings": vars(work.settings()), "examples": len(work.examples)}
    answers = (one and vars(one) for own in work.answered() for one in own)
    lines = [first, *map(vars, work.asked()), *answers]
    return b"".join(json.dumps(line).encode() + b"\n" for line in lines)


def _read(said: bytes, candidates: int, examples: int) -> tuple[Json, Scores]:
    results, *scores = map(json.loads, said.splitlines())
    return results, [scores[n * examples : (n + 1) * examples] for n in range(candidates)]
