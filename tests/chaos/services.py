"""The programs of a stack: how each is started, and whether it answers."""

import contextlib
import http.client
import os
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.chaos.stages import Stages
from tests.chaos.times import settings
from tests.valkey import Valkey, free_port

GATEWAY, INFERENCE = "gateway", "inference"
MODULES = {GATEWAY: "gateway.app", INFERENCE: "inference_service.app"}
ROOT = Path(__file__).parents[2]

# Things that must never be read in a log.
ADMIN_KEY = "gp-chaos-administrator-key-that-no-log-may-show"
INTERNAL_TOKEN = "chaos-internal-token-that-no-log-may-show"
HUB_TOKEN = "hf_chaosTokenThatNoLogMayShow"


def trainer(number: int) -> str:
    return f"trainer-{number}"


@dataclass
class Service:
    """One program: how it is started, and the process that runs it now."""

    name: str
    command: list[str]
    port: int
    environment: dict[str, str]
    process: subprocess.Popen[bytes] | None = None
    # Open files of the process that runs now, when nothing went on.
    usual_files: int | None = None

    @property
    def pid(self) -> int:
        assert self.process is not None, f"{self.name} was not started"
        return self.process.pid

    @property
    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None


def is_ready(port: int, path: str = "/readyz") -> bool:
    """Whether a service answers 200 there (without httpx, which loads certificates each time)."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def is_open(port: int) -> bool:
    """Whether anybody takes connections there."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


def plan(
    root: Path,
    valkey: Valkey,
    stages: Stages,
    trainers: int,
    inference: bool,
    changes: dict[str, str],
) -> dict[str, Service]:
    ports = {name: free_port() for name in (GATEWAY, INFERENCE)}
    common = {
        **os.environ,
        **settings(),
        "GENPLAT_DATA_DIR": str(root),
        "GENPLAT_REDIS_URL": valkey.url,
        "GENPLAT_INTERNAL_TOKEN": INTERNAL_TOKEN,
        "PYTHONPATH": str(ROOT),
        "PYTHONUNBUFFERED": "1",
        "TESTING": "1",
        "CHAOS_STAGE": str(stages.folder),
        "HF_TOKEN": HUB_TOKEN,
        "HF_HUB_OFFLINE": "1",
        # Models this small gain nothing from threads, and lose much where cores are shared.
        "OMP_NUM_THREADS": "1",
        **{f"GENPLAT_{name.upper()}": value for name, value in changes.items()},
    }
    gateway = common | {
        "GENPLAT_ADMIN_KEY": ADMIN_KEY,
        "GENPLAT_INFERENCE_URL": f"http://127.0.0.1:{ports[INFERENCE]}",
        "GENPLAT_PREPARE_BUNDLED_MODEL": "false",
    }
    made = [_service(GATEWAY, MODULES[GATEWAY], ports[GATEWAY], gateway)]
    for number in range(1, trainers + 1):
        own = common | {"GENPLAT_WORKER_NAME": f"device-{number}"}
        made.append(_service(trainer(number), "trainer_service.app", free_port(), own))
    if inference:
        own = common | {"GENPLAT_TORCH_THREADS": "1"}
        made.append(_service(INFERENCE, MODULES[INFERENCE], ports[INFERENCE], own))
    return {service.name: service for service in made}


def _service(name: str, module: str, port: int, environment: dict[str, str]) -> Service:
    command = [sys.executable, "-m", module, "--host", "127.0.0.1", "--port", str(port)]
    return Service(name, command, port, environment)
