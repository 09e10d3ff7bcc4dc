"""The GenPlat that commands talk to: one that was named, or the one that runs on the data folder.

Knows its public REST API alone.
"""

import contextlib
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx

from gateway.client import Client, CommandFailed, Json
from gateway.launcher.lock import running_stack
from gateway.local_keys import passing_key
from gateway.scopes import Scope
from gateway.settings import CommandSettings, GatewaySettings

PAGE = 100
# A start on a machine that is busy with other things.
START_SECONDS = 120.0
_LOOK_SECONDS = 0.2


def find_platform(settings: GatewaySettings, url: str) -> str:
    """The address of the platform; empty where none was named and none runs here."""
    return url or CommandSettings().url or _running_here(settings.root)


def _running_here(root: Path) -> str:
    """(One that is being started is waited for: a moment later it is there.)"""
    deadline = time.monotonic() + START_SECONDS
    while (stack := running_stack(root)) is not None and time.monotonic() < deadline:
        if "url" in stack:
            return str(stack["url"])
        time.sleep(_LOOK_SECONDS)
    return ""


@contextlib.contextmanager
def platform(
    settings: GatewaySettings,
    url: str,
    key: str,
    *,
    command: str,
    without: str,
    scopes: Sequence[Scope] = ("admin",),
) -> Iterator[Client]:
    """A client of the platform. For one that runs here a key of these ``scopes`` is made, which
    ends with the block. ``without``: what is said to do where there is no platform."""
    named = CommandSettings()
    key = key or named.api_key.get_secret_value()
    with contextlib.ExitStack() as stack:
        address = find_platform(settings, url)
        if not address:
            raise CommandFailed(
                f"No GenPlat runs on {settings.root}. Start one with `genplat up`, name one with "
                f"--url or GENPLAT_URL, or {without}"
            )
        if not (url or named.url):
            key = key or stack.enter_context(passing_key(settings, command, scopes))
        if not _is_address(address):
            raise CommandFailed(
                f"{address[:80]!r} is no address. It must look like http://127.0.0.1:8000."
            )
        if not key or not key.isascii() or not key.isprintable():
            raise CommandFailed(f"Give a key of {address} with --key or GENPLAT_API_KEY.")
        client = Client(address.rstrip("/"), key, once=named.once)
        stack.callback(client.close)
        yield client


def _is_address(url: str) -> bool:
    try:
        parts = httpx.URL(url)
    except httpx.InvalidURL:
        return False
    return parts.scheme in ("http", "https") and bool(parts.host)


def is_file(named: str) -> bool:
    """Whether data is named by a file: of one that is there a configuration makes a whole path."""
    path = Path(named)
    return path.is_absolute() and path.is_file()


def find_dataset(client: Client, named: str, *, key: str = "dataset") -> str:
    """The id of the dataset that is named by its id or its name (then its newest version)."""
    if (found := look_up_dataset(client, named)) is not None:
        return found
    raise CommandFailed(f"{key}: {named!r} is neither a file nor the id or name of a dataset.")


def look_up_dataset(client: Client, named: str) -> str | None:
    """The same; None where there is no dataset of this name. (Ids are not looked up.)"""
    if named.startswith("ds_"):
        return named
    return next((str(one["id"]) for one in datasets(client, named) if one["name"] == named), None)


def datasets(client: Client, name: str) -> Iterator[Json]:
    """Datasets, newest first; all of this name are among them."""
    query: dict[str, Any] = {"limit": PAGE, "name": name}
    while True:
        page = client.ask("GET", "/api/datasets", params=query)
        yield from page["data"]
        if not page["has_more"]:
            return
        query["after"] = page["data"][-1]["id"]
