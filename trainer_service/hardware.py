"""What there is to compute on, and which number format suits it; loads torch only when asked.

Run as ``python -m trainer_service.hardware`` it prints its findings as JSON, so that the web
process need not load torch.
"""

import contextlib
import ctypes
import json
import os
import platform
import sys
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from shared.hardware import DeviceKind
from shared.hardware import Precision as Precision

# Where the kernel says how much memory a container may use: version 2 of control groups, and 1.
_LIMIT_FILES = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
# glibc's names for what goes back to the system at once when it is free: an end of the heap of
# that size, and a block of that size.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
NEVER = 2**31 - 1
LARGE_BLOCK = 8 * 2**20


class Device(BaseModel):
    """The facts about one device that decisions rest on. ``bf16``: computed natively. ``count``:
    how many of its kind there are; of processors one, since processes share it."""

    model_config = ConfigDict(frozen=True)

    kind: DeviceKind
    name: str
    memory_bytes: int
    bf16: bool = False
    count: int = 1

    @property
    def torch_name(self) -> str:
        return "cuda:0" if self.kind == "cuda" else self.kind

    @property
    def label(self) -> str:
        """For people: "cpu (AMD EPYC)", "cuda:0 (Tesla T4)"."""
        return f"{self.torch_name} ({self.name})"


def choose_precision(device: Device) -> Precision:
    """On GPUs bf16 where the hardware computes it, else fp16 with gradient scaling (a T4).

    On CPUs fp32: without AVX-512 a bf16 product is tens of times slower, and with it a small model
    trains 1.1 times as fast, against a base that differs from the fp32 one it is served with.
    """
    if device.kind == "cuda":
        return "bf16" if device.bf16 else "fp16"
    return "fp32"


def available_cores() -> int:
    """Cores that this process may use: fewer than the machine's under an affinity mask."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def thread_count() -> int:
    """Threads for torch: what OMP_NUM_THREADS says, else one a core."""
    wanted = os.environ.get("OMP_NUM_THREADS", "")
    return int(wanted) if wanted.isdigit() and int(wanted) > 0 else available_cores()


def keep_small_blocks() -> None:
    """Have the C library keep freed blocks for the next ones, all but the largest. Of fresh pages
    every first touch costs: where activations go back to the system one by one, a small model's
    training takes a sixth longer (measured: 421 against 482 tokens a second). Large blocks go
    back: a page is little beside what is computed on them, and they leave large holes."""
    if sys.platform == "linux":
        # (Only glibc has it.)
        with contextlib.suppress(OSError, AttributeError):
            library = ctypes.CDLL(None)
            library.mallopt(_M_MMAP_THRESHOLD, LARGE_BLOCK)
            library.mallopt(_M_TRIM_THRESHOLD, NEVER)


def take_any_length() -> None:
    """Have attention on GPUs computed by kernels that take rows of any length. cuDNN's, which torch
    prefers on Hopper, plans anew for each batch of another shape: 150 ms (measured on an H100),
    where a step of a small model takes less than that."""
    import torch

    torch.backends.cuda.enable_cudnn_sdp(False)


def find_device() -> Device:
    """The first GPU, else Apple's, else the CPU."""
    import torch

    if torch.cuda.is_available():
        facts = torch.cuda.get_device_properties(0)
        return Device(
            kind="cuda",
            name=facts.name,
            memory_bytes=facts.total_memory,
            bf16=torch.cuda.is_bf16_supported(including_emulation=False),
            count=torch.cuda.device_count(),
        )
    if torch.backends.mps.is_available():
        return Device(kind="mps", name=platform.machine(), memory_bytes=_ram_bytes())
    return find_cpu()


def has_gpu() -> bool:
    """Whether torch is worth asking: without a driver's device file there is none to find."""
    places = ("/dev/nvidiactl", "/dev/dxg", "/dev/kfd")
    return sys.platform != "linux" or any(Path(place).exists() for place in places)


def find_cpu() -> Device:
    return Device(kind="cpu", name=_cpu_name(), memory_bytes=_ram_bytes())


def _ram_bytes() -> int:
    """The machine's memory, or what of it a container may use."""
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min([machine, *_container_limits()])


def _container_limits() -> list[int]:
    found = []
    for place in _LIMIT_FILES:
        try:
            text = Path(place).read_text(encoding="ascii").strip()
        except (OSError, ValueError):
            continue
        # "max": no limit.
        if text.isdigit() and int(text) > 0:
            found.append(int(text))
    return found


def _cpu_name() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            names = [line.partition(":")[2].strip() for line in lines if "model name" in line]
    except OSError:
        names = []
    return names[0] if names else platform.machine()


def describe() -> dict[str, object]:
    """Device, memory, number format and versions, as ``/hardware`` shows them."""
    import torch

    device = find_device()
    return {
        **device.model_dump(),
        "device": device.label,
        "precision": choose_precision(device),
        "cores": available_cores(),
        "torch": torch.__version__,
    }


if __name__ == "__main__":
    sys.stdout.write(json.dumps(describe()) + "\n")
