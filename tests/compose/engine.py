"""The container engine of this machine: building, running, cleaning up. Knows no GenPlat."""

import json
import os
import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]


def engine_answers() -> bool:
    if shutil.which("docker") is None:
        return False
    return subprocess.run(["docker", "info"], capture_output=True, timeout=30).returncode == 0


def run(*command: str, seconds: float = 120, **environment: str) -> str:
    """What the command prints; a failure carries its last lines."""
    result = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, **_builder(), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=seconds,
    )
    assert result.returncode == 0, f"{' '.join(command)}\n{result.stdout[-5000:]}"
    return result.stdout.strip()


def _builder() -> dict[str, str]:
    """The classic builder where the newer one is not installed."""
    found = subprocess.run(["docker", "buildx", "version"], capture_output=True, timeout=30)
    return {} if found.returncode == 0 else {"DOCKER_BUILDKIT": "0"}


def compose() -> tuple[str, ...]:
    plugin = subprocess.run(["docker", "compose", "version"], capture_output=True, timeout=30)
    return ("docker", "compose") if plugin.returncode == 0 else ("docker-compose",)


def build(target: str) -> str:
    """Build one stage of the Dockerfile; returns the image's name."""
    name = f"genplat:{target}"
    index = os.environ.get("TORCH_INDEX", "")
    run(
        "docker", "build", "--target", target, "--build-arg", f"TORCH_INDEX={index}",
        "--tag", name, ".", seconds=2400,
    )  # fmt: skip
    return name


def own_bytes(image: str, base: str) -> int:
    """What the layers of ``image`` add to ``base``."""
    sizes = [
        int(json.loads(run("docker", "image", "inspect", name))[0]["Size"])
        for name in (image, base)
    ]
    return sizes[0] - sizes[1]
