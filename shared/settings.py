"""Settings that every service shares, read from GENPLAT_* variables."""

import sys
from pathlib import Path
from typing import Annotated, Literal, TypeVar

from pydantic import BeforeValidator, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

LogLevel = Annotated[
    Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"], BeforeValidator(str.upper)
]
# The exit code of a process whose settings cannot be read.
WRONG_SETTINGS = 2


class Settings(BaseSettings):
    """What all services agree on; each service adds its own fields in a subclass."""

    model_config = SettingsConfigDict(env_prefix="GENPLAT_", extra="ignore")

    data_dir: Path = Field(Path(".genplat"), description="Folder that holds all data.")
    redis_url: str = Field("redis://127.0.0.1:6379/0", description="Queue and event stream.")
    internal_token: SecretStr = Field(
        SecretStr(""), description="Shared secret of the services; `genplat up` makes one."
    )
    log_level: LogLevel = "INFO"
    log_json: bool = Field(False, description="One JSON object a log line.")

    # The times that faults are tested against (all in seconds).
    heartbeat_seconds: float = Field(5, gt=0, description="A worker's sign of life.")
    run_lost_seconds: float = Field(30, gt=0, description="No heartbeat this long: lost.")
    reconcile_seconds: float = Field(10, gt=0, description="Period of the gateway's sweep.")
    dead_man_seconds: float = Field(
        20, gt=0, description="A training child that its worker leaves alone this long stops."
    )
    stop_grace_seconds: float = Field(30, gt=0, description="Time to save at a SIGTERM.")
    cancel_poll_seconds: float = Field(0.25, gt=0, description="How often a cancel is looked for.")
    queue_poll_seconds: float = Field(0.05, gt=0, description="How often the queue is looked at.")

    @property
    def root(self) -> Path:
        """The data folder as an absolute path."""
        return self.data_dir.expanduser().resolve()


AnySettings = TypeVar("AnySettings", bound=Settings)


def read_settings(kind: type[AnySettings]) -> AnySettings:
    """The settings of this process. Where one cannot be read, the process ends and says which."""
    try:
        return kind()
    except ValidationError as error:
        sys.stderr.writelines(f"genplat: {line}\n" for line in wrong_settings(error))
        sys.exit(WRONG_SETTINGS)


def wrong_settings(error: ValidationError) -> list[str]:
    """A line for each setting that cannot be read, by its variable's name."""
    return [
        f"GENPLAT_{'_'.join(map(str, wrong['loc'])).upper()}: {wrong['msg']}"
        for wrong in error.errors()
    ]
