"""The pages of models and of checks before a run, from fixed data; hostile texts included."""

from types import SimpleNamespace
from typing import Any

from gateway.devices import memory_needs
from shared.hardware import HardwareFacts
from shared.hyperparameters import resolve_hyperparameters
from shared.memory import MemoryEstimate
from shared.model_library import BUNDLED_MODEL, LibraryEntry, built_in_library
from shared.preflight import (
    Bin,
    DataReport,
    DatasetFacts,
    Example,
    LabelReport,
    LengthReport,
    MemoryReport,
    Piece,
    PreflightReport,
    TimeReport,
)
from shared.runs import FineTuneSpec
from tests.ui.gallery_objects import succeeded
from tests.ui.texts import EVIL, LONG, NOW
from ui.preflight_report import report_view
from ui.rendering import render, render_block

DEVICE = HardwareFacts(
    worker="w",
    kind="cpu",
    name="AMD EPYC",
    device="cpu (AMD EPYC)",
    memory_bytes=8_000_000_000,
    precision="fp32",
)
NEED = MemoryEstimate(
    weights=540_000_000,
    gradients=540_000_000,
    optimizer=1_080_000_000,
    activations=1_200_000_000,
    evaluation_peak=210_000_000,
    overhead=500_000_000,
)


def library() -> list[SimpleNamespace]:
    entries = built_in_library()
    own = LibraryEntry(id="me/own", name=EVIL, licence=None, folder="/somewhere")
    return [
        SimpleNamespace(entry=entry, state=state, error=error)
        for entry, state, error in (
            (entries[BUNDLED_MODEL], "ready", None),
            (entries["Qwen/Qwen2.5-7B-Instruct"], "preparing", None),
            (entries["meta-llama/Llama-3.2-1B-Instruct"], "missing", None),
            (entries["google-t5/t5-small"], "missing", None),
            (own, "available", None),
            (entries["microsoft/phi-1_5"], "failed", EVIL),
        )
    ]


def _models(*, device: HardwareFacts | None, **shown: Any) -> str:
    items = library()
    return render(
        "models/list.html",
        library=items,
        device=device,
        needs={item.entry.id: memory_needs(item.entry, device) for item in items},
        import_root="/data/imports",
        **shown,
    )


def report(**changes: Any) -> PreflightReport:
    spec = FineTuneSpec(base_model=BUNDLED_MODEL, dataset_id="ds_1")
    told = {
        "id": "a" * 40,
        "status": "done",
        "created_at": NOW,
        "spec": spec,
        "warnings": ["learning_rate 0.5 is 500 times what is usual.", EVIL],
        "hyperparameters": resolve_hyperparameters(spec, examples=190, context_length=8192),
        "epochs": 3.0,
        "time": TimeReport(measured=True, seconds=754.0, warm_up_steps=3, tokens_per_second=146.2),
    }
    return PreflightReport.model_validate(told | _about_data() | _about_rows() | changes)


def _about_data() -> dict[str, Any]:
    learned_from = DatasetFacts(
        id="ds_1",
        name=EVIL,
        version=2,
        format="text/target",
        rows=212,
        weight=2,
        skipped_rows=1,
        problems=[{"line": 7, "column": None, "message": EVIL}],
    )
    validated_on = DatasetFacts(
        id="ds_2", name=LONG, version=1, format="messages", rows=9, role="validation"
    )
    found = DataReport(
        training=190,
        validation=22,
        duplicates=3,
        overlapping_sources=2,
        overlapping_records=1,
        empty_answers=0,
        empty_sources=0,
    )
    return {"datasets": [learned_from, validated_on], "data": found}


def _about_rows() -> dict[str, Any]:
    lengths = LengthReport(
        what="row",
        field="max_length",
        limit=100,
        over=8,
        fate="left out",
        median=60,
        percentile_95=104,
        longest=119,
        histogram=[
            Bin(start=10 * n, end=10 * n + 10, count=(n * 7) % 11 + 1) for n in range(1, 12)
        ],
    )
    pieces = [
        Piece(text="<|im_start|>user\n" + EVIL, learned=False),
        Piece(text=EVIL + LONG + "<|im_end|>", learned=True),
    ]
    labels = LabelReport(
        rows=190,
        tokens=11_000,
        learned_tokens=4_000,
        rows_without_learned=0,
        rows_without_end=0,
    )
    memory = MemoryReport(
        device=DEVICE.device,
        kind="cpu",
        precision="fp32",
        available_bytes=DEVICE.memory_bytes,
        need=NEED,
        fits=True,
        sentence="The run needs about 3.9 GB; it fits.",
    )
    return {
        "lengths": [lengths],
        "examples": [Example(pieces=pieces)],
        "labels": labels,
        "memory": memory,
    }


def _preflight(shown: PreflightReport | None) -> str:
    view = shown and report_view(shown)
    return render("preflights/show.html", id="a" * 40, report=shown, view=view)


def _too_large() -> PreflightReport:
    memory = MemoryReport(
        device=DEVICE.device,
        kind="cpu",
        precision="fp32",
        available_bytes=2_000_000_000,
        need=NEED,
        fits=False,
        changes={"gradient_checkpointing": True, "method": "qlora"},
        then=NEED,
        sentence=EVIL,
    )
    return report(
        memory=memory,
        problems=[EVIL],
        final=False,
        time=TimeReport(measured=False, reason="A run is training on this device."),
    )


def _little_known() -> PreflightReport:
    return report(
        missing=["The model is not on this machine yet."],
        warnings=[],
        lengths=[],
        examples=[],
        labels=None,
        memory=None,
        time=None,
    )


def model_pages() -> dict[str, str]:
    values = {"id": "", "folder": "", "name": "", "context_length": ""}
    return {
        "models": _models(
            device=DEVICE, tuned=[succeeded()], adding=False, values=values, errors={}, error=None
        ),
        "models-errors": _models(
            device=None,
            tuned=[],
            adding=True,
            values=values | {"folder": EVIL},
            errors={"folder": EVIL, "id": "Write owner/name."},
            error=None,
        ),
        "preflight": _preflight(report()),
        "preflight-too-large": _preflight(_too_large()),
        "preflight-little-known": _preflight(_little_known()),
        "preflight-failed": _preflight(
            PreflightReport(
                id="a" * 40,
                status="failed",
                created_at=NOW,
                final=False,
                spec=FineTuneSpec(base_model="a/b", dataset_id="d"),
                problems=[EVIL],
            )
        ),
        "preflight-running": _preflight(None),
    }


def report_block(shown: PreflightReport) -> str:
    """What a page that waits is given."""
    view = report_view(shown)
    return render_block("preflights/show.html", "report", id="a" * 40, report=shown, view=view)
