"""A writer and a judge for tests, that answer by rule; no test."""

import json
import random
from typing import Any

from gateway.synthesis.pairs import Pair

THINGS = [
    "kettle",
    "lantern",
    "meadow",
    "harbour",
    "violin",
    "compass",
    "orchard",
    "blanket",
    "chimney",
    "glacier",
    "pepper",
    "saddle",
    "tunnel",
    "window",
    "anchor",
    "basket",
    "candle",
    "dragon",
    "engine",
    "forest",
    "garden",
    "hammer",
    "island",
    "jacket",
]


def sentence(seed: object, words: int = 9) -> str:
    return " ".join(random.Random(str(seed)).choices(THINGS, k=words))


def seed_rows(count: int = 8) -> list[Pair]:
    return [Pair(f"Why {sentence(n)}?", f"Because {sentence(n + 1000)}.") for n in range(count)]


def rows_text(pairs: list[Pair]) -> str:
    return "\n".join(f"### Input\n{one.prompt}\n### Output\n{one.completion}" for one in pairs)


def writes(body: dict[str, Any]) -> str:
    """Two rows that are new, and one that repeats an example, by the request's seed; a judge's
    verdict where it is asked as one."""
    if '"score"' in body["messages"][0]["content"]:
        row = json.loads(body["messages"][1]["content"])
        return json.dumps({"reason": "by rule", "score": 2 if "dragon" in row["answer"] else 5})
    shown = body["messages"][1]["content"].split("### Input\n")[1].split("\n### Output")[0]
    seed = body["seed"]
    return rows_text(
        [
            Pair(f"What {sentence(f'a{seed}')}?", f"It is {sentence(f'b{seed}')}."),
            Pair(shown, f"Again {sentence(seed)}."),
            Pair(f"How {sentence(f'c{seed}')}?", f"So {sentence(f'd{seed}')}."),
        ]
    )
