"""Settings of the trainer service. Run as a program it only says which cannot be read."""

import os
import socket

from pydantic import Field

from shared.settings import Settings, read_settings


class TrainerSettings(Settings):
    """The shared settings and the worker's name."""

    worker_name: str = Field(
        default_factory=lambda: f"{socket.gethostname()}-{os.getpid()}",
        description="How this worker calls itself in run events.",
    )
    keep_child_ready: bool = Field(
        True,
        description="Keep a process that has loaded the training libraries (about 400 MB) while "
        "no run is in training: runs start seconds sooner.",
    )


if __name__ == "__main__":
    read_settings(TrainerSettings)
