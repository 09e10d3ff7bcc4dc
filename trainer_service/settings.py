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


if __name__ == "__main__":
    read_settings(TrainerSettings)
