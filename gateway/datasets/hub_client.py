"""The Hugging Face hub over HTTP: the files of a dataset repository, streamed to the disk.

Plain requests, so that the gateway needs none of the libraries that load models. The variables
are theirs: HF_ENDPOINT, HF_TOKEN, HF_HUB_OFFLINE.
"""

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx

from gateway.datasets.hub_layout import MAX_README, Repository
from shared.errors import Forbidden, NotFound, TooLarge, Unavailable, UpstreamFailed

_TIMEOUT = httpx.Timeout(30, connect=10)
_MAX_LISTING = 32 * 1024 * 1024
_TRUE = ("1", "ON", "YES", "TRUE")


class HubClient:
    """One dataset repository at one revision."""

    def __init__(self, repo: str, revision: str | None) -> None:
        self.repo = repo
        endpoint = (os.environ.get("HF_ENDPOINT") or "https://huggingface.co").rstrip("/")
        token = os.environ.get("HF_TOKEN", "").strip()
        # httpx leaves the token out where a redirect leads to another host.
        self._client = httpx.Client(
            base_url=endpoint,
            headers={"Authorization": f"Bearer {token}"} if token else {},
            follow_redirects=True,
            timeout=_TIMEOUT,
        )
        self._asked = revision or "main"
        self.revision = self._asked

    def close(self) -> None:
        self._client.close()

    def listing(self) -> Repository:
        """The repository's files; from then on ``revision`` is its commit."""
        address = f"/api/datasets/{self.repo}/revision/{quote(self._asked, safe='')}"
        with self._get(address) as response:
            found = _json(b"".join(_limited(response, _MAX_LISTING, "The hub's list of files")))
        siblings = found.get("siblings")
        names = [
            item["rfilename"]
            for item in (siblings if isinstance(siblings, list) else [])
            if isinstance(item, dict) and isinstance(item.get("rfilename"), str)
        ]
        self.revision = str(found.get("sha") or self._asked)
        return Repository(names, self._readme() if "README.md" in names else "")

    def download(self, name: str, path: Path, *, max_bytes: int) -> int:
        """Write a file to ``path``; its size in bytes."""
        count = 0
        with self._get(self._address(name)) as response, path.open("wb") as out:
            said = f"The split is larger than the limit, GENPLAT_MAX_UPLOAD_BYTES: {name[:200]}"
            for block in _limited(response, max_bytes, said):
                count += out.write(block)
        return count

    def _readme(self) -> str:
        with self._get(self._address("README.md")) as response:
            text = b""
            for block in response.iter_bytes():
                text += block
                if len(text) > MAX_README:
                    break
        return text[:MAX_README].decode("utf-8", "replace")

    def _address(self, name: str) -> str:
        return f"/datasets/{self.repo}/resolve/{quote(self.revision, safe='')}/{quote(name)}"

    @contextlib.contextmanager
    def _get(self, address: str) -> Iterator[httpx.Response]:
        if os.environ.get("HF_HUB_OFFLINE", "").upper() in _TRUE:
            raise Unavailable(f"HF_HUB_OFFLINE forbids asking the hub. {self._offline()}")
        try:
            with self._client.stream("GET", address) as response:
                if response.is_error:
                    raise self._refused(response)
                yield response
        except httpx.HTTPError as error:
            raise Unavailable(f"The hub cannot be reached. {self._offline()}") from error

    def _offline(self) -> str:
        return (
            f"Put a copy of the repository into the folder {self.repo} under "
            "GENPLAT_DATASET_ROOT, or into the cache under HF_HOME."
        )

    def _refused(self, response: httpx.Response) -> Exception:
        code = response.headers.get("X-Error-Code", "")
        if code == "GatedRepo" or response.status_code == 403:
            return Forbidden(
                f"{self.repo} is gated: accept its terms on the hub, then start the gateway with "
                "HF_TOKEN set to a token of yours that may read it.",
                param="repo",
            )
        if code == "RevisionNotFound":
            return NotFound(f"{self.repo} has no revision {self._asked!r}.", param="revision")
        if response.status_code in (401, 404):
            return NotFound(
                f"The hub knows no dataset {self.repo}, or it is private: then set HF_TOKEN for "
                "the gateway to a token that may read it.",
                param="repo",
            )
        return UpstreamFailed(f"The hub answered with the status {response.status_code}.")


def _limited(response: httpx.Response, limit: int, what: str) -> Iterator[bytes]:
    count = 0
    for block in response.iter_bytes(1024 * 1024):
        count += len(block)
        if count > limit:
            raise TooLarge(f"{what} ({limit:,} bytes).", code="file_too_large", param="repo")
        yield block


def _json(body: bytes) -> dict[str, Any]:
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise UpstreamFailed("The hub's answer is no list of files.")
    return found
