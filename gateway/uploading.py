"""A file as a dataset of a platform, for commands: uploaded once, then used again."""

from collections.abc import Callable
from pathlib import Path

from gateway.client import Client
from gateway.platform import datasets
from shared.storage import sha256_of


def uploaded(
    client: Client, path: Path, *, say: Callable[[str], None], name: str | None = None
) -> str:
    """The id of the dataset that a file is."""
    digest, name = sha256_of(path), name or path.stem
    for dataset in datasets(client, name):
        if (dataset["name"], dataset["sha256"]) == (name, digest):
            say(f"Dataset {dataset['id']}: {path.name} is there already.")
            return str(dataset["id"])
    with path.open("rb") as file:
        made = client.ask(
            "POST",
            "/api/datasets",
            data={"name": name, "sha256": digest},
            files={"file": (path.name, file)},
        )
    say(f"Dataset {made['id']}: {made['rows']:,} rows of {path.name}.")
    return str(made["id"])
