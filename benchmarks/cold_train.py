"""The peer of B11: a training script as people write it, up to its first optimizer step.

python -m benchmarks.cold_train BASE_FOLDER TRAIN.jsonl
"""

import json
import sys
import time
from pathlib import Path
from typing import Any


def main(base: str, train: str) -> None:
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import (
        AutoModelForCausalLM,
        AutoTokenizer,
        Trainer,
        TrainerCallback,
        TrainingArguments,
    )

    tokenizer = AutoTokenizer.from_pretrained(base)
    model: Any = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    model = get_peft_model(
        model, LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM")
    )
    lines = Path(train).read_text(encoding="utf-8").splitlines()
    rows = []
    for pair in map(json.loads, lines):
        ids = tokenizer(pair["prompt"] + pair["completion"]).input_ids
        rows.append({"input_ids": ids, "labels": ids})

    class Stop(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            print(json.dumps({"first_step": time.time()}), flush=True)
            control.should_training_stop = True

    def collate(batch: list[dict[str, list[int]]]) -> dict[str, Any]:
        width = max(len(row["input_ids"]) for row in batch)
        ids = torch.full((len(batch), width), 0)
        labels = torch.full((len(batch), width), -100)
        for place, row in enumerate(batch):
            ids[place, : len(row["input_ids"])] = torch.tensor(row["input_ids"])
            labels[place, : len(row["labels"])] = torch.tensor(row["labels"])
        return {"input_ids": ids, "labels": labels}

    arguments = TrainingArguments(
        output_dir=str(Path(train).parent / "cold"),
        per_device_train_batch_size=2,
        max_steps=1,
        use_cpu=not torch.cuda.is_available(),
        report_to=[],
        save_strategy="no",
        disable_tqdm=True,
    )
    Trainer(
        model=model, args=arguments, train_dataset=rows, data_collator=collate, callbacks=[Stop()]
    ).train()


if __name__ == "__main__":
    main(*sys.argv[1:])
