"""Settings of the trainer service."""

import os
import socket

from pydantic import Field

from shared.settings import Settings


class TrainerSettings(Settings):
    """The shared settings and the worker's name."""

    worker_name: str = Field(
        default_factory=lambda: f"{socket.gethostname()}-{os.getpid()}",
        description="How this worker calls itself in run events.",
    )
