"""How near `shared.memory` comes to what a training really takes: six runs, each in a fresh child.

    python -m benchmarks.memory_estimate [--data-dir DIR] [--only NAME]

The peak is the largest resident set (ru_maxrss) of `python -m trainer_service.finetune`, with its
validation and its generated samples. Needs the bundled base model; some minutes on two cores.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

WORDS = "the river moves stones of many colours down to a wide and quiet sea where boats wait".split()
STEPS = 4
ROWS = 12


@dataclass(frozen=True)
class Config:
    """One run. ``words``: of each row's text, of which a third is the answer."""

    name: str
    words: int
    spec: dict[str, Any]


def _causal(name: str, words: int, **spec: Any) -> Config:
    return Config(name, words, {"base_model": "HuggingFaceTB/SmolLM2-135M-Instruct"} | spec)


CONFIGS = (
    _causal("lora, short rows", 60, method="lora", per_device_train_batch_size=2),
    _causal("lora, long rows", 900, method="lora", per_device_train_batch_size=2),
    _causal("qlora", 300, method="qlora", per_device_train_batch_size=4),
    _causal("full", 300, method="full", per_device_train_batch_size=4),
    _causal(
        "lora, gradient checkpointing",
        900,
        method="lora",
        per_device_train_batch_size=2,
        gradient_checkpointing=True,
    ),
)


def write_rows(path: Path, words: int) -> None:
    with path.open("w") as lines:
        for row in range(ROWS):
            text = [WORDS[(row + place) % len(WORDS)] for place in range(words - row)]
            cut = len(text) - len(text) // 3
            pair = {"prompt": " ".join(text[:cut]), "completion": " ".join(text[cut:])}
            lines.write(json.dumps(pair) + "\n")


def real_peak(config: Config, data_dir: Path) -> int:
    """Train; the child's largest resident set in bytes."""
    with tempfile.TemporaryDirectory() as folder:
        write_rows(Path(folder) / "rows.jsonl", config.words)
        spec = config.spec | {
            "dataset": "rows.jsonl",
            "output_dir": "out",
            "max_steps": STEPS,
            "save_steps": STEPS,
            "eval_steps": STEPS // 2,
            "validation_split": 0.2,
        }
        file = Path(folder) / "spec.json"
        file.write_text(json.dumps(spec))
        with (Path(folder) / "log").open("w+") as log:
            child = subprocess.Popen(
                [sys.executable, "-m", "trainer_service.finetune", str(file)],
                env=os.environ | {"GENPLAT_DATA_DIR": str(data_dir)},
                stdout=log,
                stderr=subprocess.STDOUT,
            )
            _, status, usage = os.wait4(child.pid, 0)
            child.returncode = os.waitstatus_to_exitcode(status)
            if child.returncode:
                log.seek(0)
                raise SystemExit(f"{config.name}: {log.read()[-2000:]}")
    return usage.ru_maxrss * 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-dir", type=Path, default=Path(".genplat"))
    parser.add_argument("--only", default="")
    options = parser.parse_args()
    for config in CONFIGS:
        if options.only in config.name:
            print(config.name, real_peak(config, options.data_dir.resolve()) / 1e6, "MB")


if __name__ == "__main__":
    main()
