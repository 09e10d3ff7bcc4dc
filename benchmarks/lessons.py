"""Texts of wished-for lengths, and the same token rows for every peer; made from bundled examples.

Lengths are log-normal, as those of real instruction data are; what the words say does not matter
to speed, but they are words, so that a tokenizer sees what it was made for.
"""

import json
import math
import random
from pathlib import Path
from typing import Any

from benchmarks.harness import ROOT

WORDS_FROM = ROOT / "examples" / "plantuml.jsonl"


def log_normal_lengths(count: int, *, mean: float, cap: int, seed: int, sigma: float) -> list[int]:
    """``count`` lengths with about this ``mean``, none above ``cap`` nor below 16."""
    source = random.Random(seed)
    middle = math.log(mean) - sigma**2 / 2
    drawn = (source.lognormvariate(middle, sigma) for _ in range(count))
    return [max(16, min(cap, round(length))) for length in drawn]


def words() -> list[str]:
    lines = WORDS_FROM.read_text(encoding="utf-8").splitlines()
    return " ".join(json.loads(line)["prompt"] for line in lines).split()


def text_of(tokenizer: Any, tokens: int, source: random.Random, known: list[str]) -> str:
    """Words that come to about ``tokens`` tokens."""
    start = source.randrange(len(known))
    chosen = [known[(start + place) % len(known)] for place in range(tokens + 8)]
    ids = tokenizer.encode(" ".join(chosen), add_special_tokens=False)[:tokens]
    return str(tokenizer.decode(ids)).strip()


def write_pairs(path: Path, pairs: list[tuple[str, str]]) -> None:
    with path.open("w", encoding="utf-8") as file:
        for prompt, completion in pairs:
            file.write(json.dumps({"prompt": prompt, "completion": completion}) + "\n")
