"""What a process took of its GPU, in parts; loads torch only when asked."""

from typing import Any


class Phases:
    """Peaks of what a run does in turn. Its report calls `note`."""

    def __init__(self) -> None:
        self.peaks: dict[str, int] = {}
        self.phase = "loading_model"

    def note(self, payload: Any) -> None:
        from shared.run_events import Advanced

        if isinstance(payload, Advanced) and payload.phase != self.phase:
            self.close()
            self.phase = payload.phase

    def close(self) -> None:
        """Add the phase that ends; the next one starts from what is held."""
        import torch

        peak = torch.cuda.max_memory_allocated()
        self.peaks[self.phase] = max(peak, self.peaks.get(self.phase, 0))
        torch.cuda.reset_peak_memory_stats()


def taken() -> dict[str, int]:
    """Bytes: what torch's tensors took at most, what torch held for them, and what stands beside
    that on the device, which is the CUDA context where no other process is there."""
    import torch

    torch.cuda.synchronize()
    free, total = torch.cuda.mem_get_info()
    reserved = torch.cuda.max_memory_reserved()
    return {
        "allocated": torch.cuda.max_memory_allocated(),
        "reserved": reserved,
        "context": total - free - torch.cuda.memory_reserved(),
    }
