"""Uploads that wait for their user to say which column is what: kept for an hour, no dataset yet.

They lie among the temporary files, whose sweep removes what is old.
"""

import contextlib
import json
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gateway.datasets.upload import Upload
from shared.errors import NotFound
from shared.storage import Storage

MAX_DRAFTS = 5
_PREFIX = "draft-"
_ID = re.compile(r"[a-z0-9]{32}")
_FACTS = "draft.json"


@dataclass(frozen=True)
class Draft:
    """``fields`` are the form's other fields as they came with the file."""

    id: str
    path: Path
    filename: str
    fields: dict[str, str]


def keep_draft(*, storage: Storage, owner: str, upload: Upload) -> Draft:
    """Keep the uploaded file; of an owner's drafts only the newest few stay."""
    draft_id = secrets.token_hex(16)
    folder = _folder(storage, draft_id)
    folder.mkdir(mode=0o700)
    os.replace(upload.path, folder / "source")
    facts = {"owner": owner, "filename": upload.filename, "fields": upload.fields}
    (folder / _FACTS).write_text(json.dumps(facts), encoding="utf-8")
    for older in _of_owner(storage, owner)[MAX_DRAFTS:]:
        shutil.rmtree(older, ignore_errors=True)
    return Draft(draft_id, folder / "source", upload.filename, upload.fields)


def open_draft(*, storage: Storage, owner: str, draft_id: str) -> Draft:
    folder = _folder(storage, draft_id) if _ID.fullmatch(draft_id) else None
    facts = _facts(folder) if folder is not None else None
    if folder is None or facts is None or facts["owner"] != owner:
        raise NotFound(
            "This upload is not kept any more: files wait for an hour. Upload the file again.",
            param="draft",
        )
    return Draft(draft_id, folder / "source", facts["filename"], facts["fields"])


def drop_draft(*, storage: Storage, draft: Draft) -> None:
    shutil.rmtree(_folder(storage, draft.id), ignore_errors=True)


def _folder(storage: Storage, draft_id: str) -> Path:
    return storage.temporary() / f"{_PREFIX}{draft_id}"


def _facts(folder: Path) -> dict[str, Any] | None:
    try:
        found: dict[str, Any] = json.loads((folder / _FACTS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found


def _of_owner(storage: Storage, owner: str) -> list[Path]:
    """The owner's drafts, newest first."""
    return [
        folder
        for _, folder in sorted(_dated(storage), reverse=True)
        if (facts := _facts(folder)) is not None and facts["owner"] == owner
    ]


def _dated(storage: Storage) -> Iterator[tuple[float, Path]]:
    for folder in storage.temporary().glob(f"{_PREFIX}*"):
        # Another request may remove it at this moment.
        with contextlib.suppress(OSError):
            yield folder.stat().st_mtime, folder
