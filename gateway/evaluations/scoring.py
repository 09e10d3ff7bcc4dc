"""Has answers scored in a process of its own (`scoring_process`): counting words of many long texts
takes seconds, during which the gateway must answer others; and texts come from anybody."""

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from gateway.evaluations.answered import Answer, Asked, Settings
from shared.errors import GenPlatError

# What Python needs to start and to find GenPlat; no secret is among them.
_ENVIRONMENT = ("PATH", "PYTHONPATH", "PYTHONSAFEPATH", "LD_LIBRARY_PATH", "SYSTEMROOT")

Json = dict[str, Any]
Scores = list[list[Json | None]]


async def score_apart(
    asked: Sequence[Asked], answers: Sequence[Sequence[Answer | None]], settings: Settings
) -> tuple[Json, Scores]:
    """What `summarise` says. GenPlatError where it came to no end."""
    given = {
        "asked": [asdict(example) for example in asked],
        "answers": [[one and asdict(one) for one in own] for own in answers],
        "settings": asdict(settings),
    }
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
        said, complaint = await process.communicate(json.dumps(given).encode())
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
    results, scores = json.loads(said)
    return results, scores
