"""B6: LoRA on SmolLM2-135M, fp32, against the plain Trainer and TRL's SFTTrainer.

64 pairs of log-normal length (mean 190 tokens, at most 768), 30 % of each supervised; r=16 over
all linear layers, AdamW, batch 8, one epoch. Every peer gets the same token rows, the same first
weights and the same learning rate; what it has learned is measured by one function on rows that
nobody trained on. Speed counts real tokens (no padding) in the seconds between the first step's
begin and the last one's end.

    python -m benchmarks.training_causal [--pairs 64] [--rounds 3]
    python -m benchmarks.training_causal --instruction 200     every prompt begins with the same
"""

import random
import tempfile
from pathlib import Path
from typing import Any

from benchmarks import harness
from benchmarks.lessons import log_normal_lengths, text_of, words, write_pairs
from benchmarks.peers import collate, our_spec, step_clock, trainer_settings

MODEL = "HuggingFaceTB/SmolLM2-135M-Instruct"
MAX_LENGTH = 768
RATE = 2e-4
HELD_OUT = 16
PEERS = {
    "GenPlat": "benchmarks.peers:genplat",
    "Trainer, padded to 768": "benchmarks.training_causal:padded_trainer",
    "TRL defaults": "benchmarks.training_causal:trl_defaults",
    "TRL grouped by length": "benchmarks.training_causal:trl_grouped",
    "TRL grouped, no recomputing": "benchmarks.training_causal:trl_grouped_kept",
}
# Multiplications and additions a token: 4 a frozen weight (forward, and the gradient of the
# input), 6 an adapter's; the output head only where a token is supervised.
BLOCK_WEIGHTS, HEAD_WEIGHTS, ADAPTER_WEIGHTS = 106.17e6, 28.31e6, 4.88e6


def prepare(folder: Path, *, pairs: int, instruction: int) -> dict[str, Any]:
    """Base model, training and held-out rows in ``folder``; the arguments of every peer.
    ``instruction``: tokens that all prompts begin with."""
    import torch
    from transformers.utils import logging

    from shared.storage import Storage
    from trainer_service.base_models import prepare_base_model
    from trainer_service.job_files import shell_job
    from trainer_service.lessons import read_lessons
    from trainer_service.modeling import load_tokenizer

    logging.disable_progress_bar()
    storage = Storage(folder)
    base = prepare_base_model(storage, MODEL)
    tokenizer = load_tokenizer(base)
    source, known = random.Random(7), words()
    longest = MAX_LENGTH - 48 - instruction
    lengths = log_normal_lengths(pairs + HELD_OUT, mean=190, cap=longest, seed=7, sigma=0.7)
    beginning = text_of(tokenizer, instruction, random.Random(8), known) if instruction else ""
    made = [
        (
            beginning + text_of(tokenizer, round(length * 0.7), source, known),
            text_of(tokenizer, round(length * 0.3), source, known),
        )
        for length in lengths
    ]
    write_pairs(folder / "train.jsonl", made[:pairs])
    write_pairs(folder / "held_out.jsonl", made[pairs:])
    spec = our_spec(MODEL, RATE) | {"max_length": MAX_LENGTH}
    lessons = read_lessons(shell_job(spec, base=folder, storage=storage))
    rows = {
        name: [{"input_ids": list(row.tokens), "labels": list(row.labels)} for row in found]
        for name, found in (("train", lessons.rows), ("held_out", lessons.validation_rows))
    }
    torch.save(rows, folder / "rows.pt")
    real = sum(len(row.tokens) for row in lessons.rows)
    supervised = sum(row.supervised for row in lessons.rows)
    print(
        f"{len(lessons.rows)} rows, {real} tokens, {supervised / real:.0%} supervised, the longest "
        f"has {max(len(row.tokens) for row in lessons.rows)}",
        flush=True,
    )
    return {"folder": str(folder), "base": str(base), "spec": spec, "real": real} | {
        "supervised": supervised
    }


def padded_trainer(arguments: dict[str, Any]) -> dict[str, Any]:
    """The plain Trainer, every row padded to the longest length allowed."""
    return _trainer(arguments)


def trl_defaults(arguments: dict[str, Any]) -> dict[str, Any]:
    return _trl(arguments)


def trl_grouped(arguments: dict[str, Any]) -> dict[str, Any]:
    return _trl(arguments, train_sampling_strategy="group_by_length")


def trl_grouped_kept(arguments: dict[str, Any]) -> dict[str, Any]:
    """As above, with the activations kept instead of computed twice, which is TRL's default."""
    return _trl(arguments, train_sampling_strategy="group_by_length", gradient_checkpointing=False)


def _adapted(base: str) -> Any:
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32, local_files_only=True)
    torch.manual_seed(42)
    return get_peft_model(
        model, LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM")
    )


def _trainer(arguments: dict[str, Any]) -> dict[str, Any]:
    import torch
    from transformers import Trainer, TrainingArguments

    folder = Path(arguments["folder"])
    rows = torch.load(folder / "rows.pt")["train"]

    model, clock = _adapted(arguments["base"]), step_clock()
    Trainer(
        model=model,
        args=TrainingArguments(**trainer_settings(folder, RATE)),
        train_dataset=rows,
        data_collator=lambda batch: collate(batch, MAX_LENGTH),
        callbacks=[clock],
    ).train()
    return _figures(arguments, model, clock)


def _trl(arguments: dict[str, Any], **changes: Any) -> dict[str, Any]:
    import torch

    try:
        from datasets import Dataset
        from trl import SFTConfig, SFTTrainer
    except ImportError as error:
        raise harness.Missing(f"{error.name} is not installed") from error
    from transformers import AutoTokenizer

    folder = Path(arguments["folder"])
    rows = torch.load(folder / "rows.pt")["train"]
    model, clock = _adapted(arguments["base"]), step_clock()
    SFTTrainer(
        model=model,
        args=SFTConfig(**trainer_settings(folder, RATE) | {"max_length": MAX_LENGTH} | changes),
        train_dataset=Dataset.from_list(rows),
        processing_class=AutoTokenizer.from_pretrained(arguments["base"]),
        callbacks=[clock],
    ).train()
    return _figures(arguments, model, clock)


def _figures(arguments: dict[str, Any], model: Any, clock: Any) -> dict[str, Any]:
    seconds = clock.ended - clock.began
    return {
        "tokens_per_second": arguments["real"] / seconds,
        "held_out_loss": _held_out_loss(model, Path(arguments["folder"])),
    }


def _held_out_loss(model: Any, folder: Path) -> float:
    """Mean over all supervised tokens of the rows that nobody trained on."""
    import torch

    rows = torch.load(folder / "rows.pt")["held_out"]
    model.eval()
    total, count = 0.0, 0
    with torch.no_grad():
        for row in rows:
            ids = torch.tensor([row["input_ids"]])
            labels = torch.tensor(row["labels"])[1:]
            logits = model(input_ids=ids).logits[0, :-1]
            total += torch.nn.functional.cross_entropy(logits, labels, reduction="sum").item()
            count += int((labels != -100).sum())
    return total / count


def report(
    found: dict[str, list[harness.Outcome]], arguments: dict[str, Any], gflops: float
) -> dict[str, Any]:
    ours = found["GenPlat"]
    speed = harness.median_of(ours, "tokens_per_second")
    per_token = 4 * BLOCK_WEIGHTS + 6 * ADAPTER_WEIGHTS
    per_token += 4 * HEAD_WEIGHTS * arguments["supervised"] / arguments["real"]
    share = speed * per_token / (gflops * 1e9)
    print(f"\nsgemm {gflops:.0f} GF/s; GenPlat's products reach {share:.0%} of it\n")
    print("| peer | real tokens/s | peak memory | held-out loss | GenPlat is faster by | memory |")
    print("|-|-|-|-|-|-|")
    figures: dict[str, Any] = {"sgemm_gflops": gflops, "share_of_sgemm": share}
    for name, outcomes in found.items():
        faster, least, most = harness.ratios(
            [one.said["tokens_per_second"] for one in ours],
            [one.said["tokens_per_second"] for one in outcomes],
        )
        memory = harness.peak_of(ours) / harness.peak_of(outcomes)
        loss = harness.median_of(outcomes, "held_out_loss")
        print(
            f"| {name} | {harness.median_of(outcomes, 'tokens_per_second'):.1f} "
            f"| {harness.peak_of(outcomes) / 1e9:.2f} GB | {loss:.4f} "
            f"| {faster:.2f}× ({least:.2f} to {most:.2f}) | {memory:.2f}× |"
        )
        figures[name] = {"faster": faster, "memory": memory, "held_out_loss": loss}
        difference = abs(loss / harness.median_of(ours, "held_out_loss") - 1)
        if difference > 0.01:
            print(f"!!! {name}: its loss differs by {difference:.1%}; the speeds do not compare")
    return figures


def main() -> None:
    parser = harness.parser(__doc__)
    parser.add_argument("--pairs", type=int, default=64)
    parser.add_argument("--instruction", type=int, default=0, metavar="TOKENS")
    options = parser.parse_args()
    print(harness.machine())
    gflops = harness.sgemm_gflops()
    with tempfile.TemporaryDirectory() as name:
        arguments = prepare(Path(name), pairs=options.pairs, instruction=options.instruction)
        found = harness.run_rounds(
            harness.chosen(PEERS, options.only),
            arguments,
            rounds=options.rounds,
            show=("tokens_per_second", "held_out_loss"),
        )
        harness.write_json(options.json, report(found, arguments, gflops))


if __name__ == "__main__":
    main()
