"""The times of a pass: a tenth of the real ones, or as TIMES says; how often each round is done."""

import os

# 1: the times that users have. The settings scale; what starts and loads takes what it takes.
TIMES = float(os.environ.get("TIMES", "0.1"))
ROUNDS = int(os.environ.get("ROUNDS", "1"))

_SECONDS = {
    "heartbeat_seconds": 5.0,
    "run_lost_seconds": 30.0,
    "reconcile_seconds": 10.0,
    "dead_man_seconds": 20.0,
    "stop_grace_seconds": 30.0,
    "key_abandoned_seconds": 60.0,
}
# Time that a busy machine may take for what is not waiting: to start processes, to load torch.
BUSY_SECONDS = 90.0


def scaled(seconds: float) -> float:
    return seconds * TIMES


def settings() -> dict[str, str]:
    """GENPLAT_* variables of every service."""
    return {f"GENPLAT_{name.upper()}": f"{scaled(value):g}" for name, value in _SECONDS.items()}


LOST_SECONDS = scaled(_SECONDS["run_lost_seconds"])
DEAD_MAN_SECONDS = scaled(_SECONDS["dead_man_seconds"])
