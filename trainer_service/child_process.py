"""Starts and stops the trainer's child processes; knows neither torch nor what they do."""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path

# What a child may see of the environment: no GENPLAT_* secret, no Redis URL, no key.
ALLOWED = {
    "ATEN_CPU_CAPABILITY",
    "CHAOS_STAGE",
    "GENPLAT_LOG_JSON",
    "GENPLAT_LOG_LEVEL",
    "HF_ENDPOINT",
    "HF_HOME",
    "HF_HUB_CACHE",
    "HF_HUB_OFFLINE",
    "HOME",
    "HTTPS_PROXY",
    "LANG",
    "LD_LIBRARY_PATH",
    "NO_PROXY",
    "OMP_NUM_THREADS",
    "OMP_WAIT_POLICY",
    "PATH",
    "PYTHONPATH",
    "SSL_CERT_FILE",
    "TESTING",
    "TMPDIR",
    "TRANSFORMERS_OFFLINE",
    "TZ",
    "https_proxy",
    "no_proxy",
}
ALLOWED_PREFIXES = ("CUDA_", "KMP_", "LC_", "MKL_", "NVIDIA_", "PYTORCH_")

# Has torch extend the blocks that it holds on a GPU: rows of ever other lengths leave holes in
# blocks of fixed sizes. Whoever sets the variable otherwise is not overruled.
ALLOCATOR = {"PYTORCH_ALLOC_CONF": "expandable_segments:True"}

# Longest line that a child may say; a longer one is dropped, not collected in memory.
MAX_LINE = 64 * 1024


def let_gpu_memory_grow() -> None:
    """The same for this process, as long as it has nothing on the GPU."""
    for name, value in ALLOCATOR.items():
        os.environ.setdefault(name, value)


def child_environment(environment: Mapping[str, str], *extra: str) -> dict[str, str]:
    """The allowed part of ``environment`` and the names in ``extra``, with this package on the
    path, so that it also works from a checkout."""
    kept = {
        name: value
        for name, value in environment.items()
        if name in ALLOWED or name in extra or name.startswith(ALLOWED_PREFIXES)
    }
    package_root = str(Path(__file__).resolve().parent.parent)
    paths = [package_root, *filter(None, [kept.get("PYTHONPATH")])]
    return ALLOCATOR | kept | {"PYTHONPATH": os.pathsep.join(paths), "PYTHONUNBUFFERED": "1"}


async def start_module(
    module: str, *arguments: str, environment: Mapping[str, str], piped: bool
) -> asyncio.subprocess.Process:
    """Start ``python -m module`` in a session of its own, so that it and whatever it starts can
    be killed together. ``piped``: stdin, stdout and stderr belong to the caller."""
    pipe = asyncio.subprocess.PIPE if piped else None
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        module,
        *arguments,
        stdin=pipe or asyncio.subprocess.DEVNULL,
        stdout=pipe,
        stderr=pipe,
        env=dict(environment),
        start_new_session=True,
        limit=MAX_LINE,
    )


def say(process: asyncio.subprocess.Process, line: bytes) -> None:
    """Write a line to a child that was started ``piped``; one that is gone hears nothing."""
    assert process.stdin is not None  # noqa: S101 (it was piped)
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        process.stdin.write(line + b"\n")


def kill_group(process: asyncio.subprocess.Process) -> None:
    """SIGKILL to the child and all that it started."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)


async def stop_process(process: asyncio.subprocess.Process, *, grace_seconds: float) -> None:
    """SIGTERM, and SIGKILL to those who do not listen."""
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(process.wait(), grace_seconds)
    kill_group(process)
