"""The rows that a batch is about, as canonical records in a file of their own."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from gateway.answering import Place
from gateway.batch_inference.config import BatchConfig
from gateway.client import CommandFailed
from gateway.datasets.canonical import Choose, check_file
from gateway.datasets.formats import Columns, choose_format
from gateway.datasets.hub_import import Wanted, fetched
from gateway.platform import is_file, look_up_dataset, platform
from shared.datasets import Record, read_records
from shared.errors import GenPlatError, InvalidData
from shared.storage import Storage

_MAX_ROWS = 10_000_000


@dataclass(frozen=True)
class Rows:
    """``count`` records in ``path``, the first ``offset`` of which are left out; ``sha256`` is of
    those that are not."""

    path: Path
    offset: int
    count: int
    sha256: str

    def records(self) -> Iterator[Record]:
        return islice(read_records(self.path), self.offset, self.offset + self.count)


def open_rows(
    config: BatchConfig, place: Place, folder: Path, *, choose: Choose = choose_format
) -> Rows:
    """The rows that ``config`` names. ``folder`` is for what has to be written, and has to live as
    long as they do. ``choose``: how a file's columns are understood. Raises `CommandFailed` and
    the named errors, which tell of wrong lines."""
    path = _records(config, place, folder, choose)
    digest, count = hashlib.sha256(), 0
    with path.open("rb") as lines:
        stop = None if config.limit is None else config.offset + config.limit
        for line in islice(lines, config.offset, stop):
            digest.update(line)
            count += 1
    if not count:
        raise CommandFailed(f"dataset: there is no row behind the first {config.offset:,}.")
    return Rows(path, config.offset, count, digest.hexdigest())


def _records(config: BatchConfig, place: Place, folder: Path, choose: Choose) -> Path:
    named, target = config.dataset, folder / "records.jsonl"
    if is_file(named):
        return _checked(config, Path(named), target, choose)
    if place.has_platform:
        if (path := _downloaded(place, named, target)) is not None:
            return path
    elif named.startswith("ds_"):
        return _stored(Storage(place.settings.root), named)
    if "/" not in named:
        others = "the id or name of a dataset" if place.has_platform else "a hub's owner/name"
        raise CommandFailed(f"dataset: {named!r} is neither a file nor {others}.")
    settings = place.settings
    with fetched(
        Wanted(named, split=config.split),
        root=settings.dataset_import_root,
        folder=folder,
        max_bytes=settings.max_upload_bytes,
    ) as (source, _):
        return _checked(config, source, target, choose)


def _downloaded(place: Place, named: str, target: Path) -> Path | None:
    """A dataset of the platform; None where it has none of this name."""
    with platform(
        place.settings,
        place.url,
        place.key,
        command=place.command,
        without="answer without one: --local.",
        scopes=("read",),
    ) as client:
        dataset_id = look_up_dataset(client, named)
        if dataset_id is None:
            return None
        client.download(f"/api/datasets/{dataset_id}/records", target)
    return target


def _stored(storage: Storage, dataset_id: str) -> Path:
    try:
        path = storage.dataset_records(dataset_id)
    except ValueError as error:
        raise CommandFailed(f"dataset: {dataset_id[:80]!r} is no dataset's id.") from error
    if not path.is_file():
        raise CommandFailed(f"dataset: there is no dataset {dataset_id} in {storage.root}.")
    return path


def _checked(config: BatchConfig, source: Path, target: Path, choose: Choose) -> Path:
    named = Columns(config.text_column, config.target_column, config.system_column)
    try:
        check_file(
            source, target, filename=source.name, named=named, max_rows=_MAX_ROWS, choose=choose
        )
    except GenPlatError as error:
        raise InvalidData(f"dataset: {_with_places(error)}", param="dataset") from error
    return target


def _with_places(error: GenPlatError) -> str:
    """The message tells of the first place; here are some of the others."""
    places = [f"\n  line {place['line']}: {place['message']}" for place in error.details[1:6]]
    return "".join([error.message, *places])
