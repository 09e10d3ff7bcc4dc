"""From a filled-in form to a dataset: its file came with it, waits as a draft, or is on a hub."""

from collections.abc import Mapping
from pathlib import PurePath

from pydantic import BaseModel, ConfigDict, Field

from gateway.database import Database
from gateway.datasets.drafts import drop_draft, open_draft
from gateway.datasets.formats import Columns
from gateway.datasets.hub_import import Wanted, import_dataset
from gateway.datasets.store import MAX_DESCRIPTION, MAX_NAME, create_dataset
from gateway.datasets.upload import Upload
from gateway.idempotency import Claim
from gateway.services import Services
from gateway.tables import Dataset
from shared.errors import InvalidRequest
from shared.storage import Storage

COLUMNS = ("text_column", "target_column", "system_column")
FIELDS = ("name", "description", *COLUMNS, "skip_bad_rows")
_YES, _NO = ("true", "1", "on", "yes"), ("", "false", "0", "off", "no")


class DatasetImport(BaseModel):
    """A split of a dataset repository. ``config`` left out: the default one."""

    model_config = ConfigDict(extra="forbid")

    repo: str = Field(min_length=1, max_length=200, examples=["owner/name"])
    config: str | None = Field(None, max_length=200)
    split: str = Field("train", min_length=1, max_length=200)
    revision: str | None = Field(None, max_length=200)
    name: str | None = Field(None, max_length=MAX_NAME)
    description: str = Field("", max_length=MAX_DESCRIPTION)
    text_column: str | None = None
    target_column: str | None = None
    system_column: str | None = None
    skip_bad_rows: bool = False


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


def create_from_hub(
    *, services: Services, owner: str, asked: DatasetImport, claim: Claim | None = None
) -> Dataset:
    """The dataset of a hub's split."""
    return import_dataset(
        database=services.database,
        storage=services.storage,
        owner=owner,
        root=services.settings.dataset_import_root,
        max_bytes=services.settings.max_upload_bytes,
        wanted=Wanted(asked.repo, asked.config, asked.split, asked.revision),
        claim=claim,
        **asked.model_dump(exclude={"repo", "config", "split", "revision"}),
    )


def named_columns(fields: Mapping[str, str]) -> Columns:
    """The columns that a form names."""
    return Columns(*(fields.get(name, "").strip() or None for name in COLUMNS))


def parse_flag(text: str, field: str) -> bool:
    if text.strip().lower() in _YES:
        return True
    if text.strip().lower() in _NO:
        return False
    raise InvalidRequest(f"{field} must be true or false.", param=field)
