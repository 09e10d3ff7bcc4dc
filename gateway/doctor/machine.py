"""The machine: Python, processor, memory, disk, devices. Loads no machine-learning library."""

import importlib.metadata
import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from gateway.doctor.finding import Finding
from gateway.launcher.checks import LOWEST_PYTHON, NEEDED_BYTES

GIB = 1024**3
# Distribution -> how it is installed; the others can be done without.
ESSENTIAL = {
    "fastapi": "genplat",
    "sqlmodel": "genplat",
    "arq": "genplat",
    "torch": "genplat[ml]",
    "transformers": "genplat[ml]",
    "peft": "genplat[ml]",
    "safetensors": "genplat[ml]",
}
OPTIONAL = {"bitsandbytes": "QLoRA needs it", "psycopg": "PostgreSQL needs it"}
_DEVICES = """
import json, torch
names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
if torch.backends.mps.is_available():
    names.append("Apple MPS")
print(json.dumps({"devices": names, "built_for": torch.version.cuda, "threads":
                  torch.get_num_threads()}))
"""


def python() -> Finding:
    version = platform.python_version()
    if sys.version_info[:2] < LOWEST_PYTHON:
        return Finding("Python", "fail", version, "Install Python 3.11 or newer.")
    return Finding("Python", "ok", f"{version} ({sys.executable})")


def libraries() -> Iterator[Finding]:
    for name in (*ESSENTIAL, *OPTIONAL):
        try:
            yield Finding(name, "ok", importlib.metadata.version(name))
        except importlib.metadata.PackageNotFoundError:
            if name in ESSENTIAL:
                yield Finding(name, "fail", "missing", f"pip install '{ESSENTIAL[name]}'")
            else:
                yield Finding(name, "ok", f"not installed ({OPTIONAL[name]})")


def processor() -> Finding:
    found = f"{os.cpu_count()} cores, {platform.machine()}"
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return Finding("Processor", "ok", found)
    flags = set(next((line for line in text.splitlines() if line.startswith("flags")), "").split())
    wide = [name for name in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if name in flags]
    found += f", {' '.join(wide) or 'no AVX2'}"
    if platform.machine() == "x86_64" and "avx2" not in flags:
        return Finding("Processor", "warn", found, "Training will be slow without AVX2.")
    precision = "bf16 in hardware" if {"avx512_bf16", "amx_bf16"} & flags else "computes in fp32"
    return Finding("Processor", "ok", f"{found} ({precision})")


def memory() -> Finding:
    size = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / GIB
    if size < 6:
        way_out = "Training the bundled model takes about 5 GB; close other programs."
        return Finding("Memory", "warn", f"{size:.1f} GB", way_out)
    return Finding("Memory", "ok", f"{size:.1f} GB")


def disk(root: Path) -> Finding:
    existing = next(folder for folder in (root, *root.parents) if folder.exists())
    free = shutil.disk_usage(existing).free
    found = f"{free / GIB:.1f} GB free for {root}"
    if free < NEEDED_BYTES:
        return Finding("Disk", "fail", found, "Free some, or choose a disk with GENPLAT_DATA_DIR.")
    if free < 5 * NEEDED_BYTES:
        return Finding("Disk", "warn", found, "Each base model and run takes some of it.")
    return Finding("Disk", "ok", found)


def devices() -> Finding:
    """What torch sees, asked in a process of its own."""
    try:
        answer = subprocess.run(
            [sys.executable, "-c", _DEVICES], capture_output=True, text=True, timeout=120
        )
        seen = json.loads(answer.stdout)
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return Finding("Devices", "fail", "torch cannot be loaded", "Install torch again.")
    if seen["devices"]:
        return Finding("Devices", "ok", ", ".join(seen["devices"]))
    found = f"CPU only ({seen['threads']} threads)"
    if seen["built_for"] and shutil.which("nvidia-smi"):
        way_out = "nvidia-smi is here, but torch sees no GPU: is the driver new enough?"
        return Finding("Devices", "warn", found, way_out)
    if shutil.which("nvidia-smi"):
        way_out = "This torch is the CPU build; see the README on choosing a CUDA build."
        return Finding("Devices", "warn", found, way_out)
    return Finding("Devices", "ok", found)
