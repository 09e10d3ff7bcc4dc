"""How near `shared.memory` comes to what trainings really take: eight, each in a fresh process.

    python -m benchmarks.memory_estimate [--data-dir DIR] [--only NAME]

The peak is the child's largest resident set, validation and generated samples included. Needs the
bundled base model; about five minutes on two cores.
"""

import argparse
import json
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import harness

SMOLLM2 = "HuggingFaceTB/SmolLM2-135M-Instruct"
T5_SHAPE = "bench/t5-small-shape"
WORDS = "the river moves stones of many colours down to a wide and quiet sea where boats wait"
STEPS = 4
ROWS = 16
WITHIN = 0.25


@dataclass(frozen=True)
class Config:
    """One run. ``source`` and ``target``: words of each row."""

    name: str
    source: int
    target: int
    spec: dict[str, Any]


CONFIGS = (
    Config("LoRA, short rows", 40, 20, {"method": "lora", "per_device_train_batch_size": 2}),
    Config("LoRA, long rows", 600, 300, {"method": "lora", "per_device_train_batch_size": 2}),
    Config("QLoRA", 200, 100, {"method": "qlora", "per_device_train_batch_size": 4}),
    Config("QLoRA, long rows", 600, 300, {"method": "qlora", "per_device_train_batch_size": 2}),
    Config("full", 200, 100, {"method": "full", "per_device_train_batch_size": 4}),
    Config(
        "LoRA, long rows, gradient checkpointing",
        600,
        300,
        {"method": "lora", "per_device_train_batch_size": 2, "gradient_checkpointing": True},
    ),
    Config(
        "full, encoder-decoder of t5-small's size",
        110,
        8,
        {"base_model": T5_SHAPE, "method": "full", "per_device_train_batch_size": 8},
    ),
    Config(
        "LoRA, encoder-decoder, long sources",
        180,
        8,
        {"base_model": T5_SHAPE, "method": "lora", "per_device_train_batch_size": 8},
    ),
)


def train(arguments: dict[str, Any]) -> dict[str, Any]:
    """A few steps in this process; what the estimate is to be made from."""
    from shared.storage import Storage
    from trainer_service.finetune import fine_tune, quiet_libraries
    from trainer_service.hardware import find_device
    from trainer_service.job_files import shell_job
    from trainer_service.training_setup import read_lessons

    quiet_libraries()
    folder = Path(arguments["folder"])
    job = shell_job(arguments["spec"], base=folder, storage=Storage(Path(arguments["data_dir"])))
    fine_tune(job, lambda _: None, check=lambda: None, device=find_device())
    lessons = read_lessons(job)
    sizes = [row.size for row in (*lessons.rows, *lessons.validation_rows)]
    longest = [max(sizes_of) for sizes_of in zip(*sizes, strict=True)]
    config = json.loads((lessons.folder / "config.json").read_text())
    return {
        "numbers": lessons.numbers.model_dump(),
        "family": lessons.template.family,
        "longest": longest if lessons.template.family == "seq2seq" else [longest[1], 0],
        "config": config,
    }


def prepare(data_dir: Path) -> None:
    """The base models; the encoder-decoder has random weights."""
    import torch
    from transformers import ByT5Tokenizer, T5Config, T5ForConditionalGeneration

    from shared.storage import Storage
    from trainer_service.base_models import prepare_base_model

    storage = Storage(data_dir)
    prepare_base_model(storage, SMOLLM2)
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        T5ForConditionalGeneration(T5Config(decoder_start_token_id=0)).save_pretrained(folder)
        ByT5Tokenizer().save_pretrained(folder)
        prepare_base_model(storage, T5_SHAPE, folder=Path(folder))


def write_rows(path: Path, config: Config) -> None:
    words = (WORDS.split() * (config.source + config.target))[: config.source + config.target]
    with path.open("w") as lines:
        for row in range(ROWS):
            pair = {
                "prompt": " ".join(words[row % 8 : config.source]),
                "completion": " ".join(words[config.source :]) + f" {row}",
            }
            lines.write(json.dumps(pair) + "\n")


def measured(config: Config, data_dir: Path) -> tuple[int, dict[str, Any]]:
    """The real peak in bytes, and what the run said of itself."""
    folder = Path(tempfile.mkdtemp())
    try:
        write_rows(folder / "rows.jsonl", config)
        spec = {"base_model": SMOLLM2, **config.spec, "dataset": "rows.jsonl", "output_dir": "out"}
        spec |= {"max_steps": STEPS, "eval_steps": STEPS // 2, "validation_split": 0.2}
        arguments = {"folder": str(folder), "data_dir": str(data_dir), "spec": spec}
        outcome = harness.run_peer("benchmarks.memory_estimate:train", arguments)
        assert outcome is not None
        return outcome.peak_bytes, outcome.said
    finally:
        shutil.rmtree(folder)


def estimated(config: Config, said: dict[str, Any]) -> int:
    from shared.memory import Longest, Model, estimate
    from shared.model_shapes import shape_from_config
    from shared.runs import Hyperparameters

    shape = shape_from_config(said["config"])
    assert shape is not None
    found = estimate(
        Model(shape, said["config"]["architectures"][0], said["family"]),
        config.spec["method"],
        Hyperparameters.model_validate(said["numbers"]),
        device="cpu",
        precision="fp32",
        longest=Longest(*said["longest"]),
    )
    print("   ", {name: f"{value / 1e6:.0f}" for name, value in found.model_dump().items()})
    return found.total


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-dir", type=Path, default=Path(".genplat"))
    parser.add_argument("--only", default="", help="part of a run's name")
    parser.add_argument("--json", type=Path, help="write what was measured there too")
    options = parser.parse_args()
    data_dir = options.data_dir.resolve()
    prepare(data_dir)
    print(harness.machine())
    worst = 0.0
    figures: dict[str, Any] = {}
    for config in CONFIGS:
        if options.only not in config.name:
            continue
        peak, said = measured(config, data_dir)
        guess = estimated(config, said)
        figures[config.name] = {"peak": peak, "estimate": guess, **said}
        error = guess / peak - 1
        worst = max(worst, abs(error))
        sizes = f"estimate {guess / 1e9:.2f} GB  real peak {peak / 1e9:.2f} GB  error {error:+.0%}"
        print(f"{config.name:<42} {sizes}", flush=True)
    harness.write_json(options.json, figures)
    print(f"largest error {worst:.0%} (must: {WITHIN:.0%})")


if __name__ == "__main__":
    main()
