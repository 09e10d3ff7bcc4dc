"""B7: LoRA on an encoder-decoder of t5-small's size, fp32, against Seq2SeqTrainer.

Pairs of XSum's shape: sources of log-normal length (mean 560 tokens, at most 1,024), targets of
about 30. The weights are random (no T5 can be fetched everywhere), the tokenizer reads bytes; what
counts is that every peer gets the same rows, the same first weights and the same learning rate.
Speed counts real tokens, source and target, in the seconds of the optimizer steps.

    python -m benchmarks.training_seq2seq [--pairs 32] [--rounds 3]
"""

import random
import tempfile
from pathlib import Path
from typing import Any

from benchmarks import harness
from benchmarks.lessons import log_normal_lengths, words, write_pairs
from benchmarks.peers import our_spec, step_clock, trainer_settings

MODEL = "bench/t5-small-shape"
SOURCE, TARGET = 1024, 1024
RATE = 1e-3
HELD_OUT = 8
PEERS = {
    "GenPlat": "benchmarks.peers:genplat",
    "source padded to 1024": "benchmarks.training_seq2seq:source_padded",
    "source and target padded": "benchmarks.training_seq2seq:both_padded",
    "Seq2SeqTrainer, grouped": "benchmarks.training_seq2seq:grouped",
}


def prepare(folder: Path, *, pairs: int) -> dict[str, Any]:
    """A random model of t5-small's size and its rows in ``folder``; the arguments of every peer."""
    import torch
    from transformers import ByT5Tokenizer, T5Config, T5ForConditionalGeneration
    from transformers.utils import logging

    from shared.storage import Storage
    from trainer_service.base_models import prepare_base_model

    logging.disable_progress_bar()
    torch.manual_seed(0)
    config = T5Config(decoder_start_token_id=0, dropout_rate=0.0)
    T5ForConditionalGeneration(config).save_pretrained(folder / "model")
    ByT5Tokenizer().save_pretrained(folder / "model")
    storage = Storage(folder)
    base = prepare_base_model(storage, MODEL, folder=folder / "model")
    tokenizer = ByT5Tokenizer()
    source, text = random.Random(7), " ".join(words())
    lengths = log_normal_lengths(pairs + HELD_OUT, mean=560, cap=SOURCE - 1, seed=7, sigma=0.5)
    targets = log_normal_lengths(pairs + HELD_OUT, mean=30, cap=64, seed=8, sigma=0.3)
    made = [
        (_cut(text, length, source), _cut(text, target, source))
        for length, target in zip(lengths, targets, strict=True)
    ]
    write_pairs(folder / "train.jsonl", made[:pairs])
    write_pairs(folder / "held_out.jsonl", made[pairs:])
    rows = [
        {"input_ids": tokenizer(prompt).input_ids, "labels": tokenizer(completion).input_ids}
        for prompt, completion in made
    ]
    torch.save({"train": rows[:pairs], "held_out": rows[pairs:]}, folder / "rows.pt")
    real = sum(len(row["input_ids"]) + len(row["labels"]) for row in rows[:pairs])
    print(f"{pairs} rows, {real} tokens, sources of {sum(lengths[:pairs]) / pairs:.0f}", flush=True)
    spec = our_spec(MODEL, RATE) | {"max_length": SOURCE, "max_target_length": TARGET}
    return {"folder": str(folder), "base": str(base), "spec": spec, "real": real}


def _cut(text: str, length: int, source: random.Random) -> str:
    start = source.randrange(len(text) - length)
    return text[start : start + length].replace("\n", " ").strip() or "x"


def source_padded(arguments: dict[str, Any]) -> dict[str, Any]:
    return _train(arguments, source=SOURCE, target=None)


def both_padded(arguments: dict[str, Any]) -> dict[str, Any]:
    return _train(arguments, source=SOURCE, target=TARGET)


def grouped(arguments: dict[str, Any]) -> dict[str, Any]:
    return _train(arguments, source=None, target=None, train_sampling_strategy="group_by_length")


def _train(
    arguments: dict[str, Any], *, source: int | None, target: int | None, **changes: Any
) -> dict[str, Any]:
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import (
        AutoModelForSeq2SeqLM,
        Seq2SeqTrainer,
        Seq2SeqTrainingArguments,
    )

    folder = Path(arguments["folder"])
    model = AutoModelForSeq2SeqLM.from_pretrained(arguments["base"], dtype=torch.float32)
    torch.manual_seed(42)
    adapted: Any = get_peft_model(
        model,
        LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="SEQ_2_SEQ_LM"),
    )

    def collate(batch: list[dict[str, list[int]]]) -> dict[str, Any]:
        wide = source or max(len(row["input_ids"]) for row in batch)
        long = target or max(len(row["labels"]) for row in batch)
        ids = torch.zeros(len(batch), wide, dtype=torch.long)
        mask, labels = torch.zeros_like(ids), torch.full((len(batch), long), -100)
        for place, row in enumerate(batch):
            ids[place, : len(row["input_ids"])] = torch.tensor(row["input_ids"])
            mask[place, : len(row["input_ids"])] = 1
            labels[place, : len(row["labels"])] = torch.tensor(row["labels"])
        return {"input_ids": ids, "attention_mask": mask, "labels": labels}

    clock = step_clock()
    Seq2SeqTrainer(
        model=adapted,
        args=Seq2SeqTrainingArguments(**trainer_settings(folder, RATE) | changes),
        train_dataset=torch.load(folder / "rows.pt")["train"],
        data_collator=collate,
        callbacks=[clock],
    ).train()
    return {
        "tokens_per_second": arguments["real"] / (clock.ended - clock.began),
        "held_out_loss": _held_out_loss(adapted, folder),
    }


def _held_out_loss(model: Any, folder: Path) -> float:
    import torch

    model.eval()
    total, count = 0.0, 0
    with torch.no_grad():
        for row in torch.load(folder / "rows.pt")["held_out"]:
            labels = torch.tensor([row["labels"]])
            answer = model(input_ids=torch.tensor([row["input_ids"]]), labels=labels)
            total += answer.loss.item() * labels.numel()
            count += labels.numel()
    return total / count


def report(found: dict[str, list[harness.Outcome]]) -> dict[str, Any]:
    ours = found["GenPlat"]
    loss_of_ours = harness.median_of(ours, "held_out_loss")
    print("\n| peer | real tokens/s | peak memory | held-out loss | GenPlat is faster by |")
    print("|-|-|-|-|-|")
    figures: dict[str, Any] = {}
    for name, outcomes in found.items():
        faster, least, most = harness.ratios(
            [one.said["tokens_per_second"] for one in ours],
            [one.said["tokens_per_second"] for one in outcomes],
        )
        loss = harness.median_of(outcomes, "held_out_loss")
        print(
            f"| {name} | {harness.median_of(outcomes, 'tokens_per_second'):.0f} "
            f"| {harness.peak_of(outcomes) / 1e9:.2f} GB | {loss:.4f} "
            f"| {faster:.2f}× ({least:.2f} to {most:.2f}) |"
        )
        figures[name] = {"faster": faster, "held_out_loss": loss}
        if (difference := abs(loss / loss_of_ours - 1)) > 0.01:
            print(f"!!! {name}: its loss differs by {difference:.1%}; the speeds do not compare")
    return figures


def main() -> None:
    parser = harness.parser(__doc__)
    parser.add_argument("--pairs", type=int, default=32)
    options = parser.parse_args()
    print(harness.machine())
    with tempfile.TemporaryDirectory() as name:
        arguments = prepare(Path(name), pairs=options.pairs)
        found = harness.run_rounds(
            harness.chosen(PEERS, options.only),
            arguments,
            rounds=options.rounds,
            show=("tokens_per_second", "held_out_loss"),
        )
        harness.write_json(options.json, report(found))


if __name__ == "__main__":
    main()
