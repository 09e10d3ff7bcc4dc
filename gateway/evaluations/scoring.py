"""Scores answers in a process of its own: counting words of many long texts takes seconds, during
which the gateway must answer others; and texts come from anybody. The process has limits and no
secret.

Run as ``python -m gateway.evaluations.scoring``: JSON in, JSON out.
"""

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict

from gateway.evaluations.answered import Answer, Asked, Json, Settings
from shared.errors import GenPlatError

CPU_SECONDS = 3600
MEMORY_BYTES = 4 * 1024**3
# What Python needs to start and to find GenPlat; no secret is among them.
_ENVIRONMENT = ("PATH", "PYTHONPATH", "PYTHONSAFEPATH", "LD_LIBRARY_PATH", "SYSTEMROOT")

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
        "gateway.evaluations.scoring",
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


def score(given: Json) -> tuple[Json, Scores]:
    # In this process alone: the gateway loads none of the libraries that count.
    from gateway.evaluations.summary import summarise

    settings = given["settings"] | {"metrics": tuple(given["settings"]["metrics"])}
    asked = [Asked(one["source"], tuple(one["references"]), one["tag"]) for one in given["asked"]]
    answers = [
        [one and Answer(**one | {"references": tuple(one["references"])}) for one in own]
        for own in given["answers"]
    ]
    return summarise(asked, answers, Settings(**settings))


def _limit() -> None:
    # Windows has no such limits.
    with contextlib.suppress(ImportError):
        import resource

        resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
        # macOS knows this one and refuses to set it.
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
        os.nice(5)


if __name__ == "__main__":
    _limit()
    json.dump(score(json.load(sys.stdin)), sys.stdout, allow_nan=False)
