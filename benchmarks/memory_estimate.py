"""How near `shared.memory` comes to what trainings really take: each in a fresh process.

    python -m benchmarks.memory_estimate [--data-dir DIR] [--only NAME]     on a CPU
    python -m benchmarks.memory_estimate --gpu                              on this NVIDIA GPU

On a CPU the peak is the process's largest resident set, validation and generated samples included;
eight runs, about five minutes on two cores, over the bundled base model. On a GPU it is what its
tensors took at most and the CUDA context beside them (what torch held beyond that is told, too);
random weights of real shapes, one token a byte, on a GPU that nobody else uses.
"""

import argparse
import json
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import harness
from benchmarks.random_models import SHAPES, id_of

SMOLLM2 = "HuggingFaceTB/SmolLM2-135M-Instruct"
T5_SHAPE = id_of("t5-small")
WORDS = "the river moves stones of many colours down to a wide and quiet sea where boats wait"
STEPS = 4
ROWS = 16
GPU_ROWS = 40
WITHIN = 0.25


@dataclass(frozen=True)
class Config:
    """One run. ``source`` and ``target``: words of each row."""

    name: str
    source: int
    target: int
    spec: dict[str, Any]

    @property
    def base_model(self) -> str:
        return str(self.spec.get("base_model", SMOLLM2))


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


def _on_gpu(
    shape: str, method: str, batch: int, *, words: int = 186, answer: int = 0, **spec: Any
) -> Config:
    """A word has about five tokens there: `words` of them a row, the last third as the answer."""
    answer = answer or words // 3
    settings = {"base_model": id_of(shape), "method": method, "per_device_train_batch_size": batch}
    more = ", ".join([f"batch {batch}", f"{5 * words} tokens", *spec])
    return Config(f"{method}, {shape}, {more}", words - answer, answer, settings | spec)


GPU_CONFIGS = (
    _on_gpu("smollm2-135m", "lora", 8, words=18),
    _on_gpu("smollm2-135m", "lora", 16),
    _on_gpu("smollm2-135m", "lora", 16, gradient_checkpointing=True),
    _on_gpu("smollm2-135m", "qlora", 16),
    _on_gpu("smollm2-135m", "full", 8, words=66),
    _on_gpu("t5-small", "full", 16, words=120, answer=8),
    _on_gpu("t5-small", "lora", 8, words=180, answer=8),
    _on_gpu("llama-3.2-1b", "lora", 4),
    _on_gpu("llama-3.2-1b", "qlora", 4),
    _on_gpu("llama-3.2-1b", "full", 4),
    _on_gpu("phi-1.5", "qlora", 1, words=100),
)


def train(arguments: dict[str, Any]) -> dict[str, Any]:
    """A few steps in this process; what the estimate is to be made from."""
    from benchmarks.gpu_memory import Phases, taken
    from shared.storage import Storage
    from trainer_service.child_process import let_gpu_memory_grow
    from trainer_service.finetune import fine_tune, quiet_libraries
    from trainer_service.hardware import choose_precision, find_device
    from trainer_service.job_files import shell_job
    from trainer_service.lessons import read_lessons

    let_gpu_memory_grow()
    quiet_libraries()
    folder = Path(arguments["folder"])
    job = shell_job(arguments["spec"], base=folder, storage=Storage(Path(arguments["data_dir"])))
    device, phases = find_device(), Phases()
    on_gpu = device.kind == "cuda"
    fine_tune(job, phases.note if on_gpu else _ignore, check=lambda: None, device=device)
    if on_gpu:
        phases.close()
    lessons = read_lessons(job)
    sizes = [row.size for row in (*lessons.rows, *lessons.validation_rows)]
    longest = [max(sizes_of) for sizes_of in zip(*sizes, strict=True)]
    config = json.loads((lessons.folder / "config.json").read_text())
    return {
        "numbers": lessons.numbers.model_dump(),
        "family": lessons.template.family,
        "longest": longest if lessons.template.family == "seq2seq" else [longest[1], 0],
        "config": config,
        "device": device.kind,
        "precision": choose_precision(device),
        "taken": taken() | {"allocated": max(phases.peaks.values())} if on_gpu else {},
        "phases": phases.peaks,
    }


def _ignore(_: Any) -> None:
    """What a run says on its way."""


def prepare(data_dir: Path, configs: Sequence[Config]) -> None:
    """The base models; all but the bundled one have random weights."""
    from shared.storage import Storage
    from trainer_service.base_models import prepare_base_model

    for shape in SHAPES:
        if any(config.base_model == id_of(shape) for config in configs):
            arguments = {"data_dir": str(data_dir), "shape": shape}
            harness.run_peer("benchmarks.random_models:make", arguments)
    if any(config.base_model == SMOLLM2 for config in configs):
        prepare_base_model(Storage(data_dir), SMOLLM2)


def write_rows(path: Path, config: Config, count: int) -> None:
    words = (WORDS.split() * (config.source + config.target))[: config.source + config.target]
    with path.open("w") as lines:
        for row in range(count):
            pair = {
                "prompt": " ".join(words[row % 8 : config.source]),
                "completion": " ".join(words[config.source :]) + f" {row}",
            }
            lines.write(json.dumps(pair) + "\n")


def measured(config: Config, data_dir: Path, *, rows: int) -> tuple[int, dict[str, Any]]:
    """The real peak in bytes, and what the run said of itself."""
    folder = Path(tempfile.mkdtemp())
    try:
        write_rows(folder / "rows.jsonl", config, rows)
        spec = {"base_model": SMOLLM2, **config.spec, "dataset": "rows.jsonl", "output_dir": "out"}
        spec |= {"max_steps": STEPS, "eval_steps": STEPS // 2, "validation_split": 0.2}
        arguments = {"folder": str(folder), "data_dir": str(data_dir), "spec": spec}
        outcome = harness.run_peer("benchmarks.memory_estimate:train", arguments)
        assert outcome is not None
        if taken := outcome.said["taken"]:
            return taken["allocated"] + taken["context"], outcome.said
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
        device=said["device"],
        precision=said["precision"],
        longest=Longest(*said["longest"]),
    )
    parts = {**found.model_dump(), **said["taken"], **said["phases"]}
    print("   ", {name: f"{value / 1e6:.0f}" for name, value in parts.items()})
    return found.total


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-dir", type=Path, default=Path(".genplat"))
    parser.add_argument("--only", default="", help="part of a run's name")
    parser.add_argument("--json", type=Path, help="write what was measured there too")
    parser.add_argument("--gpu", action="store_true", help="on this NVIDIA GPU")
    options = parser.parse_args()
    data_dir = options.data_dir.resolve()
    known, rows = (GPU_CONFIGS, GPU_ROWS) if options.gpu else (CONFIGS, ROWS)
    configs = [config for config in known if options.only in config.name]
    prepare(data_dir, configs)
    print(harness.machine())
    worst = 0.0
    figures: dict[str, Any] = {}
    for config in configs:
        peak, said = measured(config, data_dir, rows=rows)
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
