"""The process that scores answers. It has limits and no secret.

Run as ``python -m gateway.evaluations.scoring_process``: JSON in, JSON out.
"""

import contextlib
import json
import os
import sys

from gateway.evaluations.answered import Answer, Asked, Settings
from gateway.evaluations.scoring import Json, Scores
from gateway.evaluations.summary import summarise

CPU_SECONDS = 3600
MEMORY_BYTES = 4 * 1024**3


def score(given: Json) -> tuple[Json, Scores]:
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
