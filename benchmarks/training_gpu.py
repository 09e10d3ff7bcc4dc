"""LoRA on an NVIDIA GPU in bf16, against transformers' Trainer; random weights of real shapes.

Pairs of log-normal length (mean 190 tokens, at most 768), a third of each supervised, one token a
byte; r=16 over all linear layers, AdamW, one epoch. Every peer gets the same token rows, the same
first weights and the same learning rate; what it has learned is measured on rows that nobody
trained on. Each trains a few steps beforehand, so that no start-up counts. Speed counts real tokens
(no padding); memory is what torch held at most.

    python -m benchmarks.training_gpu [--shape smollm2-135m] [--batch 8] [--pairs 512] [--rounds 3]
"""

import random
import tempfile
import uuid
from pathlib import Path
from typing import Any

from benchmarks import harness
from benchmarks.lessons import log_normal_lengths, words, write_pairs
from benchmarks.peers import collate, our_spec, step_clock, trainer_settings
from benchmarks.random_models import SHAPES, id_of

MAX_LENGTH = 768
RATE = 2e-4
HELD_OUT, WARM_UP = 64, 4
PEERS = {
    "GenPlat": "benchmarks.training_gpu:genplat",
    "Trainer, padded to 768": "benchmarks.training_gpu:padded",
    "Trainer, grouped by length": "benchmarks.training_gpu:grouped",
}


def prepare(folder: Path, *, shape: str, batch: int, pairs: int) -> dict[str, Any]:
    """Base model, training and held-out rows in ``folder``; the arguments of every peer."""
    import torch

    from shared.storage import Storage
    from trainer_service.job_files import shell_job
    from trainer_service.lessons import read_lessons

    made = harness.run_peer(
        "benchmarks.random_models:make", {"data_dir": str(folder), "shape": shape}
    )
    assert made is not None
    source, text = random.Random(7), " ".join(words())
    lengths = log_normal_lengths(pairs + HELD_OUT, mean=190, cap=MAX_LENGTH - 48, seed=7, sigma=0.7)
    cuts = [(_cut(text, 2 * size // 3, source), _cut(text, size // 3, source)) for size in lengths]
    write_pairs(folder / "train.jsonl", cuts[:pairs])
    write_pairs(folder / "held_out.jsonl", cuts[pairs:])
    spec = our_spec(id_of(shape), RATE) | {"max_length": MAX_LENGTH}
    spec |= {"per_device_train_batch_size": batch}
    lessons = read_lessons(shell_job(spec, base=folder, storage=Storage(folder)))
    rows = {
        name: [{"input_ids": list(row.tokens), "labels": list(row.labels)} for row in found]
        for name, found in (("train", lessons.rows), ("held_out", lessons.validation_rows))
    }
    torch.save(rows, folder / "rows.pt")
    real = sum(len(row.tokens) for row in lessons.rows)
    print(f"{shape}, batch {batch}: {len(lessons.rows)} rows, {real} tokens", flush=True)
    return made.said | {"folder": str(folder), "spec": spec, "real": real, "batch": batch}


def _cut(text: str, length: int, source: random.Random) -> str:
    start = source.randrange(len(text) - length - 1)
    return text[start : start + length].replace("\n", " ").strip() or "x"


def genplat(arguments: dict[str, Any]) -> dict[str, Any]:
    import torch

    from shared.run_events import Measured
    from shared.storage import Storage
    from trainer_service.child_process import let_gpu_memory_grow
    from trainer_service.finetune import fine_tune, quiet_libraries
    from trainer_service.job_files import shell_job

    let_gpu_memory_grow()
    quiet_libraries()
    folder = Path(arguments["folder"])
    losses: list[float] = []

    def report(payload: Any) -> None:
        if isinstance(payload, Measured) and payload.eval_loss is not None:
            losses.append(payload.eval_loss)

    def train(**changes: Any) -> float:
        spec = arguments["spec"] | {"output_dir": f"out-{uuid.uuid4().hex[:8]}"} | changes
        job = shell_job(spec, base=folder, storage=Storage(folder))
        return fine_tune(job, report, check=lambda: None).train_seconds or 0.0

    train(max_steps=WARM_UP)
    _forget()
    seconds = train()
    return _figures(arguments, seconds, losses[-1]) | {"gpu": torch.cuda.get_device_name()}


def padded(arguments: dict[str, Any]) -> dict[str, Any]:
    return _trainer(arguments, width=MAX_LENGTH)


def grouped(arguments: dict[str, Any]) -> dict[str, Any]:
    """Rows of like length together, padded to the longest of each batch."""
    return _trainer(arguments, train_sampling_strategy="group_by_length")


def _trainer(arguments: dict[str, Any], *, width: int = 0, **changes: Any) -> dict[str, Any]:
    import torch
    from transformers import Trainer, TrainingArguments

    folder = Path(arguments["folder"])
    rows = torch.load(folder / "rows.pt")
    settings = trainer_settings(folder, RATE) | {"use_cpu": False, "bf16": True}
    settings |= {"per_device_train_batch_size": arguments["batch"]} | changes

    def train(**more: Any) -> tuple[Any, Any]:
        model, clock = _adapted(arguments["base"]), step_clock()
        trainer = Trainer(
            model=model,
            args=TrainingArguments(**settings | more),
            train_dataset=rows["train"],
            data_collator=lambda batch: collate(batch, width),
            callbacks=[clock],
        )
        trainer.train()
        return model, clock

    train(max_steps=WARM_UP)
    _forget()
    model, clock = train()
    seconds = clock.ended - clock.began
    return _figures(arguments, seconds, _held_out_loss(model, rows["held_out"]))


def _adapted(base: str) -> Any:
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.bfloat16, local_files_only=True)
    torch.manual_seed(42)
    return get_peft_model(
        model, LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM")
    )


def _forget() -> None:
    """What the warm-up left on the GPU."""
    import gc

    import torch

    gc.collect()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()


def _figures(arguments: dict[str, Any], seconds: float, loss: float) -> dict[str, Any]:
    import torch

    return {
        "tokens_per_second": arguments["real"] / seconds,
        "held_out_loss": loss,
        "held_gb": torch.cuda.max_memory_reserved() / 1e9,
        "tensors_gb": torch.cuda.max_memory_allocated() / 1e9,
    }


def _held_out_loss(model: Any, rows: list[dict[str, list[int]]]) -> float:
    """Mean over all supervised tokens of the rows that nobody trained on."""
    import torch

    model.eval()
    total, count = 0.0, 0
    with torch.no_grad(), torch.autocast("cuda", dtype=torch.bfloat16):
        for row in rows:
            ids = torch.tensor([row["input_ids"]], device="cuda")
            labels = torch.tensor(row["labels"], device="cuda")[1:]
            logits = model(input_ids=ids).logits[0, :-1].float()
            total += torch.nn.functional.cross_entropy(logits, labels, reduction="sum").item()
            count += int((labels != -100).sum())
    return total / count


def report(found: dict[str, list[harness.Outcome]]) -> dict[str, Any]:
    ours = found["GenPlat"]
    print("\n| peer | real tokens/s | held by torch | held-out loss | GenPlat is faster by |")
    print("|-|-|-|-|-|")
    figures: dict[str, Any] = {}
    for name, outcomes in found.items():
        faster, least, most = harness.ratios(
            [one.said["tokens_per_second"] for one in ours],
            [one.said["tokens_per_second"] for one in outcomes],
        )
        figures[name] = {
            key: harness.median_of(outcomes, key)
            for key in ("tokens_per_second", "held_gb", "tensors_gb", "held_out_loss")
        }
        print(
            f"| {name} | {figures[name]['tokens_per_second']:.0f} "
            f"| {figures[name]['held_gb']:.2f} GB | {figures[name]['held_out_loss']:.4f} "
            f"| {faster:.2f}× ({least:.2f} to {most:.2f}) |"
        )
    return figures


def main() -> None:
    parser = harness.parser(__doc__)
    parser.add_argument("--shape", default="smollm2-135m", choices=SHAPES)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--pairs", type=int, default=512)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        found = harness.run_rounds(
            harness.chosen(PEERS, options.only),
            prepare(Path(name), shape=options.shape, batch=options.batch, pairs=options.pairs),
            rounds=options.rounds,
            show=("tokens_per_second", "held_gb", "held_out_loss"),
        )
        harness.write_json(options.json, report(found))


if __name__ == "__main__":
    main()
