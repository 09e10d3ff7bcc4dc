"""The most memory that this process has held; knows no run."""

import resource
import sys

import torch

from trainer_service.hardware import Device


def peak_memory_bytes(device: Device) -> int:
    """On an NVIDIA GPU what its tensors took at most; elsewhere what was resident at most."""
    if device.kind == "cuda":
        return int(torch.cuda.max_memory_allocated())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
