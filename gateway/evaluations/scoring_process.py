"""The process that scores answers. It has limits and no secret.

Run as ``python -m gateway.evaluations.scoring_process``. A line of JSON each: in come the settings,
the examples, and every candidate's answers; out go the results, and the scores of every answer.
"""

import contextlib
import json
import os
import sys
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

from gateway.evaluations.answered import Answer, Asked, Settings
from gateway.evaluations.summary import summarise

CPU_SECONDS = 3600
MEMORY_BYTES = 4 * 1024**3


def score(given: Iterable[str]) -> Iterator[Any]:
    lines = iter(given)
    first = json.loads(next(lines))
    settings = Settings(**first["settings"] | {"metrics": tuple(first["settings"]["metrics"])})
    asked = [Asked(**_restored(line)) for line in islice(lines, first["examples"])]
    answers = [
        [None if line == "null\n" else Answer(**_restored(line)) for line in own]
        for own in iter(lambda: list(islice(lines, first["examples"])), [])
    ]
    results, scores = summarise(asked, answers, settings)
    yield results
    for own in scores:
        yield from own


def _restored(line: str) -> dict[str, Any]:
    fields: dict[str, Any] = json.loads(line)
    return fields | {"references": tuple(fields["references"])}


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
    for found in score(sys.stdin):
        sys.stdout.write(json.dumps(found, allow_nan=False) + "\n")
