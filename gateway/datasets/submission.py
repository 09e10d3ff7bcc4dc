"""From a filled-in form to a dataset: its file came with it, or waits as a draft."""

from collections.abc import Mapping
from pathlib import PurePath

from gateway.database import Database
from gateway.datasets.drafts import drop_draft, open_draft
from gateway.datasets.formats import Columns
from gateway.datasets.store import create_dataset
from gateway.datasets.upload import Upload
from gateway.idempotency import Claim
from gateway.tables import Dataset
from shared.errors import InvalidRequest
from shared.storage import Storage

COLUMNS = ("text_column", "target_column", "system_column")
FIELDS = ("name", "description", *COLUMNS, "skip_bad_rows")
_YES, _NO = ("true", "1", "on", "yes"), ("", "false", "0", "off", "no")


def create_from_form(
    *,
    database: Database,
    storage: Storage,
    owner: str,
    upload: Upload,
    claim: Claim | None = None,
    name_by_file: bool = False,
) -> Dataset:
    """The dataset of an upload. ``name_by_file``: an empty name is made of the file's."""
    draft_id = upload.fields.get("draft", "")
    if draft_id and upload.has_file:
        raise InvalidRequest("Send either a file or the draft of one, not both.", param="draft")
    draft = open_draft(storage=storage, owner=owner, draft_id=draft_id) if draft_id else None
    filename = draft.filename if draft else upload.filename
    given = {field: upload.fields.get(field, "").strip() for field in FIELDS}
    skip = parse_flag(given.pop("skip_bad_rows"), "skip_bad_rows")
    if name_by_file:
        given["name"] = given["name"] or PurePath(filename.replace("\\", "/")).stem
    made = create_dataset(
        database=database,
        storage=storage,
        owner=owner,
        source=draft.path if draft else upload.path,
        filename=filename,
        name=given["name"],
        description=given["description"],
        text_column=given["text_column"],
        target_column=given["target_column"],
        system_column=given["system_column"],
        skip_bad_rows=skip,
        claim=claim,
    )
    if draft:
        drop_draft(storage=storage, draft=draft)
    return made


def named_columns(fields: Mapping[str, str]) -> Columns:
    """The columns that a form names."""
    return Columns(*(fields.get(name, "").strip() or None for name in COLUMNS))


def parse_flag(text: str, field: str) -> bool:
    if text.strip().lower() in _YES:
        return True
    if text.strip().lower() in _NO:
        return False
    raise InvalidRequest(f"{field} must be true or false.", param=field)
