"""The pages of datasets with data that is as odd as it may be."""

from datetime import timedelta
from types import SimpleNamespace
from typing import Any

from tests.ui.texts import BASE, EVIL, LONG, NOW, SOURCE
from ui.dataset_samples import SAMPLES
from ui.rendering import render

FIELDS = ("name", "description", "text_column", "target_column", "system_column", "skip_bad_rows")
DETAILS = [
    {"line": 3, "column": "target", "message": EVIL},
    {"line": 1209, "column": 17, "message": "this byte is not UTF-8."},
    {"line": 7, "row": 7, "column": None, "message": "nested too deeply."},
    {"line": None, "column": None, "message": "the file is empty."},
]
UPLOAD = {
    "samples": SAMPLES,
    "values": dict.fromkeys(FIELDS, ""),
    "max_bytes": 512_000_000,
    "filename": "rows.csv",
    "max_details": 20,
    "draft": "",
}
FOUND = SimpleNamespace(
    file_type="csv",
    columns=["question", "answer", EVIL, LONG],
    format=None,
    message="the columns text,target or … are needed; found 'question', 'answer'.",
    preview=[{"question": EVIL, "answer": SOURCE, EVIL: "a", LONG: LONG}],
    rows_checked=10_000,
    bad_rows=2,
    problems=DETAILS[:2],
)


def dataset(**changes: Any) -> SimpleNamespace:
    values = {
        "id": "ds_1",
        "name": "plantuml-scenarios",
        "description": "Scenarios in words, and the diagram that shows them.",
        "version": 2,
        "filename": "plantuml.jsonl",
        "file_type": "jsonl",
        "format": "prompt/completion",
        "rows": 212,
        "bytes": 132_400,
        "sha256": "ab" * 32,
        "columns": ["prompt", "completion"],
        "warnings": [],
        "skipped_rows": 0,
        "problems": [],
        "mapping": {"text_column": "prompt", "target_column": "completion"},
        "imported_from": None,
        "derived_from": None,
        "created_at": NOW - timedelta(hours=2),
    }
    return SimpleNamespace(**(values | changes))


def dataset_pages(model: Any) -> dict[str, str]:
    """``model`` is a library item that is not prepared."""
    return {
        "datasets-empty": render("datasets/list.html", datasets=[], has_more=False),
        "datasets": render(
            "datasets/list.html",
            datasets=[
                dataset(skipped_rows=3),
                dataset(name=EVIL, warnings=["a"]),
                dataset(name=LONG),
            ],
            has_more=True,
        ),
        "dataset-new": render("datasets/new.html", **UPLOAD, error=None, details=[], errors={}),
        "dataset-errors": render(
            "datasets/new.html",
            **(UPLOAD | {"draft": "d" * 32}),
            error="2 lines cannot be used.",
            details=DETAILS,
            errors={"file": "Choose it again."},
        ),
        "dataset-columns": _columns(FOUND),
        "dataset-columns-known": _columns(
            SimpleNamespace(**(vars(FOUND) | {"format": "alpaca", "message": None})), DETAILS
        ),
        "dataset-import": _import(None, {}),
        "dataset-import-refused": _import(EVIL, {"repo": EVIL}),
        "dataset-diff": _diff(),
        "dataset": _show(model),
    }


def _columns(found: SimpleNamespace, details: Any = ()) -> str:
    return render(
        "datasets/columns.html",
        draft="d" * 32,
        filename="rows.csv",
        found=found,
        choices=[(name, name) for name in found.columns],
        values=UPLOAD["values"],
        error=None,
        errors={"target_column": "text_column and target_column must differ."},
        details=details,
        max_details=20,
    )


def _import(error: str | None, errors: dict[str, str]) -> str:
    return render(
        "datasets/import.html",
        values=dict.fromkeys((*FIELDS, "repo", "config", "split", "revision"), ""),
        root="/data/imports",
        error=error,
        errors=errors,
        details=[],
        max_details=20,
    )


def _diff() -> str:
    side = SimpleNamespace(rows=212, mean_characters=301.4, longest_characters=8121)
    return render(
        "datasets/diff.html",
        before=dataset(version=1),
        after=dataset(name=LONG),
        diff=SimpleNamespace(
            added=12, removed=3, changed=4, unchanged=196, before=side, after=side,
            columns_added=[EVIL], columns_removed=[LONG],
        ),
    )  # fmt: skip


def _show(model: Any) -> str:
    learned = [
        SimpleNamespace(text="<|im_start|>user\nDraw an order<|im_end|>\n", learned=False),
        SimpleNamespace(text=SOURCE + "<|im_end|>", learned=True),
    ]
    source = {"repo": "org/data", "config": "de", "split": "train", "revision": "ab" * 20}
    shown = dataset(
        warnings=["3 rows are there twice."],
        skipped_rows=4,
        problems=DETAILS,
        imported_from=source | {"source": "hub", "files": 2},
    )
    return render(
        "datasets/show.html",
        dataset=shown,
        versions=[shown, dataset(id="ds_0", version=1, rows=190)],
        error=None,
        base_models=[(BASE, "SmolLM2 135M (ready)"), ("a/b", LONG)],
        shown_model=model,
        rendered=[learned],
        rows=[{"prompt": EVIL, "completion": SOURCE}, {"prompt": LONG, "completion": ""}],
        columns=["prompt", "completion"],
    )
