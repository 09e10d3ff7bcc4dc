"""B8: QLoRA against LoRA of our own, and against the naive way with bitsandbytes and PEFT.

SmolLM2-135M in fp32, r=16 over all linear layers, steps of 2,048 tokens (4 rows of 512). What
counts: bytes of the base weights in memory, the process's highest resident memory, seconds a step.

    python -m benchmarks.training_qlora [--rounds 3]           on a CPU
    python -m benchmarks.training_qlora --gpu                  phi-1.5's shape on a GPU, random
"""

import random
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks import harness
from benchmarks.lessons import text_of, words, write_pairs
from benchmarks.random_models import id_of

MODEL = "HuggingFaceTB/SmolLM2-135M-Instruct"
LENGTH, ROWS, STEPS = 512, 4, 5
PHI, GPU_STEPS = "phi-1.5", 20
PEERS = {
    "LoRA": "benchmarks.training_qlora:lora",
    "QLoRA": "benchmarks.training_qlora:qlora",
    "QLoRA, naive": "benchmarks.training_qlora:naive",
}


def prepare(folder: Path) -> dict[str, Any]:
    from transformers.utils import logging

    from shared.storage import Storage
    from trainer_service.base_models import prepare_base_model
    from trainer_service.modeling import load_tokenizer

    logging.disable_progress_bar()
    base = prepare_base_model(Storage(folder), MODEL)
    tokenizer, source, known = load_tokenizer(base), random.Random(7), words()
    pairs = [
        (text_of(tokenizer, 330, source, known), text_of(tokenizer, 140, source, known))
        for _ in range(ROWS * STEPS)
    ]
    write_pairs(folder / "train.jsonl", pairs)
    return {"folder": str(folder), "base": str(base)}


def lora(arguments: dict[str, Any]) -> dict[str, Any]:
    return _ours(arguments, "lora")


def qlora(arguments: dict[str, Any]) -> dict[str, Any]:
    return _ours(arguments, "qlora")


def _ours(arguments: dict[str, Any], method: str) -> dict[str, Any]:
    import uuid

    from shared.run_events import Measured
    from shared.storage import Storage
    from trainer_service import finetune
    from trainer_service.hardware import find_device
    from trainer_service.job_files import shell_job
    from trainer_service.training_setup import set_up

    finetune.quiet_libraries()
    folder = Path(arguments["folder"])
    spec = {
        "base_model": MODEL,
        "method": method,
        "dataset": "train.jsonl",
        "output_dir": f"out-{uuid.uuid4().hex[:8]}",
        "validation_split": 0,
        "max_steps": STEPS,
        "per_device_train_batch_size": ROWS,
        "max_length": LENGTH,
        "learning_rate": 2e-4,
        "lora_r": 16,
        "seed": 42,
    }
    job = shell_job(spec, base=folder, storage=Storage(folder))
    times, losses = [], []

    def report(payload: Any) -> None:
        if isinstance(payload, Measured) and payload.loss is not None:
            times.append(time.perf_counter())
            losses.append(payload.loss)

    training = set_up(job, report, check=lambda: None, device=find_device())
    for step in range(STEPS):
        finetune.train_step(training, step)
    return _figures(_weight_bytes(training.model), times, losses)


def naive(arguments: dict[str, Any]) -> dict[str, Any]:
    """As tutorials do it: bitsandbytes through transformers, PEFT's layers, logits everywhere."""
    import torch
    from peft import LoraConfig, get_peft_model, prepare_model_for_kbit_training
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    from shared.storage import Storage
    from trainer_service.job_files import shell_job
    from trainer_service.lessons import read_lessons

    folder = Path(arguments["folder"])
    spec = {"base_model": MODEL, "dataset": "train.jsonl", "output_dir": "naive"}
    job = shell_job(spec | {"validation_split": 0}, base=folder, storage=Storage(folder))
    rows = read_lessons(job).rows
    model: Any = AutoModelForCausalLM.from_pretrained(
        arguments["base"],
        dtype=torch.float32,
        device_map={"": "cpu"},
        quantization_config=BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=torch.float32,
        ),
    )
    model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)
    torch.manual_seed(42)
    model = get_peft_model(
        model, LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM")
    )
    adamw = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=2e-4)
    model.train()
    times, losses = [], []
    for step in range(STEPS):
        chosen = rows[step * ROWS : (step + 1) * ROWS]
        width = max(len(row.tokens) for row in chosen)
        ids = torch.tensor([[*row.tokens, *[0] * (width - len(row.tokens))] for row in chosen])
        labels = torch.tensor(
            [[*row.labels, *[-100] * (width - len(row.labels))] for row in chosen]
        )
        loss = model(input_ids=ids, attention_mask=(ids != 0).long(), labels=labels).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        adamw.step()
        adamw.zero_grad()
        times.append(time.perf_counter())
        losses.append(loss.item())
    return _figures(_weight_bytes(model), times, losses)


def _figures(weights: int, times: list[float], losses: list[float]) -> dict[str, Any]:
    """The first step warms up and is left out."""
    seconds = (times[-1] - times[0]) / (len(times) - 1)
    return {"seconds_a_step": seconds, "weight_mb": weights / 1e6, "last_loss": losses[-1]}


def _weight_bytes(model: Any) -> int:
    """Bytes of what does not learn, quantisation tables included, each storage once."""
    seen: dict[int, int] = {}
    for tensor in _tensors(model):
        storage = tensor.untyped_storage()
        seen[storage.data_ptr()] = storage.nbytes()
    return sum(seen.values())


def _tensors(model: Any) -> Any:
    for parameter in model.parameters():
        if parameter.requires_grad:
            continue
        yield parameter.data
        state = getattr(parameter, "quant_state", None)
        if state is not None:
            yield state.absmax
            nested = getattr(state, "state2", None)
            if nested is not None:
                yield nested.absmax
    yield from model.buffers()


def phi(arguments: dict[str, Any]) -> dict[str, Any]:
    """Random weights of phi-1.5's shape, rows of 512 tokens, on this GPU; beside it what was
    estimated."""
    from benchmarks.gpu_memory import taken
    from shared.storage import Storage
    from trainer_service import finetune
    from trainer_service.child_process import let_gpu_memory_grow
    from trainer_service.hardware import find_device
    from trainer_service.job_files import shell_job
    from trainer_service.reading import longest_of
    from trainer_service.spreading import Plan, model_in, need_of
    from trainer_service.training_setup import set_up

    let_gpu_memory_grow()
    finetune.quiet_libraries()
    folder, batch = Path(arguments["folder"]), arguments["batch"]
    spec = {
        "base_model": id_of(PHI),
        "method": "qlora",
        "dataset": "bytes.jsonl",
        "output_dir": f"phi-{batch}",
        "validation_split": 0,
        "max_steps": GPU_STEPS,
        "per_device_train_batch_size": batch,
        "max_length": LENGTH,
        "lora_r": 16,
    }
    device = find_device()
    job = shell_job(spec, base=folder, storage=Storage(folder))
    training = set_up(job, lambda _: None, check=lambda: None, device=device)
    for step in range(GPU_STEPS):
        if step == GPU_STEPS // 2:
            tokens, began = training.pace.trained_tokens, time.perf_counter()
        finetune.train_step(training, step)
    seconds, lessons = time.perf_counter() - began, training.lessons
    model = model_in(lessons.folder)
    assert model is not None
    plan = Plan(model, "qlora", lessons.numbers, longest_of(lessons.rows))
    return taken() | {
        "estimate": need_of(plan, device).total,
        "tokens_per_second": (training.pace.trained_tokens - tokens) / seconds,
    }


def phi_on_gpu() -> None:
    """The known claim: under 3 GB."""
    import torch

    if not torch.cuda.is_available():
        raise SystemExit("There is no GPU here.")
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}")
    print("| rows a step | tensors | held by torch | with CUDA's context | estimate | tokens/s |")
    print("|-|-|-|-|-|-|")
    with tempfile.TemporaryDirectory() as name:
        pair = ("x" * 350, "y" * (LENGTH - 350 - 2))
        write_pairs(Path(name) / "bytes.jsonl", [pair] * 8 * GPU_STEPS)
        harness.run_peer("benchmarks.random_models:make", {"data_dir": name, "shape": PHI})
        for batch in (1, 4, 8):
            outcome = harness.run_peer(
                "benchmarks.training_qlora:phi", {"folder": name, "batch": batch}
            )
            assert outcome is not None
            said = outcome.said
            whole = said["reserved"] + said["context"]
            sizes = (said["allocated"], said["reserved"], whole, said["estimate"])
            print(
                f"| {batch} | {' | '.join(f'{size / 1e9:.2f} GB' for size in sizes)} "
                f"| {said['tokens_per_second']:.0f} |",
                flush=True,
            )


def report(found: dict[str, list[harness.Outcome]]) -> dict[str, Any]:
    plain = found["LoRA"]
    print("\n| method | weights | peak memory | seconds a step | against LoRA | last loss |")
    print("|-|-|-|-|-|-|")
    figures: dict[str, Any] = {}
    for name, outcomes in found.items():
        weights = harness.median_of(outcomes, "weight_mb")
        slower, least, most = harness.ratios(
            [one.said["seconds_a_step"] for one in outcomes],
            [one.said["seconds_a_step"] for one in plain],
        )
        figures[name] = {
            "weights": weights / harness.median_of(plain, "weight_mb"),
            "peak": harness.peak_of(outcomes) / harness.peak_of(plain),
            "step": slower,
        }
        print(
            f"| {name} | {weights:.0f} MB ({figures[name]['weights']:.2f}×) "
            f"| {harness.peak_of(outcomes) / 1e9:.2f} GB ({figures[name]['peak']:.2f}×) "
            f"| {harness.median_of(outcomes, 'seconds_a_step'):.2f} "
            f"| {slower:.2f}× ({least:.2f} to {most:.2f}) "
            f"| {harness.median_of(outcomes, 'last_loss'):.3f} |"
        )
    return figures


def main() -> None:
    parser = harness.parser(__doc__)
    parser.add_argument("--gpu", action="store_true", help="phi-1.5's shape on this GPU")
    options = parser.parse_args()
    if options.gpu:
        phi_on_gpu()
        return
    print(harness.machine())
    with tempfile.TemporaryDirectory() as name:
        found = harness.run_rounds(
            harness.chosen(PEERS, options.only),
            prepare(Path(name)),
            rounds=options.rounds,
            show=("seconds_a_step", "weight_mb", "last_loss"),
        )
        harness.write_json(options.json, report(found))


if __name__ == "__main__":
    main()
