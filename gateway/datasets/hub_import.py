"""A split of a dataset repository becomes a dataset. Looked for in a local folder, in the cache of
Hugging Face's libraries, on the hub, in this order. No code of a repository is ever run."""

import json
import re
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gateway.database import Database
from gateway.datasets.hub_client import HubClient
from gateway.datasets.hub_folders import LocalRepository, cache_folder, in_cache, in_folder
from gateway.datasets.hub_layout import MAX_SHARDS, Repository, described, split_files
from gateway.datasets.sniff import file_type
from gateway.datasets.store import create_dataset
from gateway.datasets.tables import open_table, problems_for
from gateway.tables import Dataset
from shared.errors import InvalidData, NotFound, TooLarge
from shared.storage import Storage

_REPO = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}(/[A-Za-z0-9][A-Za-z0-9._-]{0,95})?")
_REVISION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,199}")


@dataclass(frozen=True)
class Wanted:
    """A split of a repository. ``config`` None: the default one."""

    repo: str
    config: str | None = None
    split: str = "train"
    revision: str | None = None


@dataclass(frozen=True)
class Found:
    """The split's files in their order, and where they came from."""

    files: list[Path]
    source: str
    revision: str | None


def import_dataset(
    *,
    database: Database,
    storage: Storage,
    owner: str,
    wanted: Wanted,
    root: Path,
    max_bytes: int,
    name: str | None = None,
    **options: Any,
) -> Dataset:
    """Create a dataset of a split; ``options`` are those of `create_dataset`. ``root`` is the
    folder of local repositories."""
    with tempfile.TemporaryDirectory(dir=storage.temporary(), prefix="import-") as folder:
        tail = wanted.repo.rpartition("/")[2]
        by_split = tail if wanted.split == "train" else f"{tail}-{wanted.split}"
        with fetched(wanted, root=root, folder=Path(folder), max_bytes=max_bytes) as (
            source,
            found,
        ):
            return create_dataset(
                database=database,
                storage=storage,
                owner=owner,
                source=source,
                filename=f"{by_split}{source.suffix}",
                name=name or by_split,
                imported_from={
                    "repo": wanted.repo,
                    "config": wanted.config,
                    "split": wanted.split,
                    "revision": found.revision,
                    "source": found.source,
                    "files": len(found.files),
                },
                **options,
            )


@contextmanager
def fetched(
    wanted: Wanted, *, root: Path, folder: Path, max_bytes: int
) -> Iterator[tuple[Path, Found]]:
    """All rows of a split as one file, readable during the block, and where they were found.
    ``folder`` is for what has to be written."""
    _check(wanted)
    with _found(wanted, root, folder, max_bytes) as found:
        _check_size(found.files, max_bytes)
        source = found.files[0]
        if len(found.files) > 1:
            source = _joined(found.files, folder / "joined.jsonl")
        yield source, found


def _check(wanted: Wanted) -> None:
    if not _REPO.fullmatch(wanted.repo) or ".." in wanted.repo or "--" in wanted.repo:
        raise InvalidData("repo must look like owner/name, as on the hub.", param="repo")
    revision = wanted.revision
    if revision is not None and (not _REVISION.fullmatch(revision) or ".." in revision):
        raise InvalidData("revision must be a branch, a tag or a commit.", param="revision")


@contextmanager
def _found(wanted: Wanted, root: Path, folder: Path, max_bytes: int) -> Iterator[Found]:
    local = in_folder(root, wanted.repo)
    if local is not None:
        yield Found(_in(local, wanted, must=True), "folder", local.revision)
        return
    cached = in_cache(cache_folder(), wanted.repo, wanted.revision)
    if cached is not None and (files := _in(cached, wanted, must=False)):
        yield Found(files, "cache", cached.revision)
        return
    with closing(HubClient(wanted.repo, wanted.revision)) as hub:
        names = _names(hub.listing(), wanted)
        files, left = [], max_bytes
        for number, name in enumerate(names):
            path = folder / f"{number:05d}{Path(name).suffix.lower()}"
            left -= hub.download(name, path, max_bytes=left)
            files.append(path)
        yield Found(files, "hub", hub.revision)


def _in(repository: LocalRepository, wanted: Wanted, *, must: bool) -> list[Path]:
    listing = repository.listing
    names = split_files(listing, wanted.config, wanted.split)
    # A cache may hold a part of a repository only; a folder is all that there is.
    if must or names:
        names = _names(listing, wanted)
    return [repository.files[name] for name in names]


def _names(listing: Repository, wanted: Wanted) -> list[str]:
    names = split_files(listing, wanted.config, wanted.split)
    if not names:
        config = f" in the config {wanted.config!r}" if wanted.config else ""
        raise NotFound(
            f"{wanted.repo} has no file of the split {wanted.split[:80]!r}{config}. "
            f"{described(listing)}. Compressed files and dataset scripts are not read.",
            param="split",
        )
    if len(names) > MAX_SHARDS:
        raise TooLarge(f"The split has more than {MAX_SHARDS:,} files.", param="split")
    return names


def _check_size(files: Sequence[Path], max_bytes: int) -> None:
    if sum(path.stat().st_size for path in files) > max_bytes:
        raise TooLarge(
            f"The split is larger than {max_bytes:,} bytes (GENPLAT_MAX_UPLOAD_BYTES).",
            code="file_too_large",
            param="repo",
        )


def _joined(files: Sequence[Path], path: Path) -> Path:
    """The rows of all files as JSON lines. Lines are copied as they are, so that wrong ones are
    told of with all the others."""
    with path.open("wb") as out:
        for file in files:
            kind = file_type(file, file.name)
            if kind == "jsonl":
                with file.open("rb") as lines:
                    shutil.copyfileobj(lines, out)
                out.write(b"\n")
            else:
                problems = problems_for(kind)
                with open_table(file, kind, problems) as table:
                    for _, values in table.rows:
                        out.write(json.dumps(values, ensure_ascii=False).encode() + b"\n")
                problems.raise_if_any()
    return path
