"""Starts the processes of a run that has several devices, through torchrun, and ends as they do.

Started as ``python -m trainer_service.ranks COMMAND.json`` in the place of `trainer_service.child`,
whose arguments it takes: between the supervisor and the processes that train. The supervisor needs
one child that it can kill, feed and ask for an exit code; this is it. What starts the processes of
several hosts can take its place.
"""

import os
import signal
import sys
from pathlib import Path
from typing import NoReturn

from shared.errors import GenPlatError
from shared.run_events import Logged
from trainer_service import exit_codes
from trainer_service.guards import die_with_parent, offer_to_oom_killer
from trainer_service.hardware import available_cores, thread_count
from trainer_service.job_files import parse_supervised, read_json

CHILD_MODULE = "trainer_service.child"


def torchrun(file: Path, devices: int) -> int:
    """Run the child once a device; the exit code that tells why the first of them ended."""
    # Imported here: it loads torch, and a parent may die meanwhile.
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.run import get_args_parser, run

    arguments = ["--standalone", f"--nproc-per-node={devices}", "--max-restarts=0"]
    parsed = get_args_parser().parse_args([*arguments, "--module", CHILD_MODULE, str(file)])
    try:
        run(parsed)  # type: ignore[no-untyped-call]
    except ChildFailedError as error:
        _, failure = error.get_first_failure()
        return failure.exitcode
    except SignalException:
        return exit_codes.PREEMPTED
    return exit_codes.OK


def too_many(devices: int) -> str | None:
    """Why so many processes make no sense here, in a sentence; None where they do."""
    import torch

    found, what = available_cores(), "processor cores"
    if torch.cuda.is_available():
        found, what = torch.cuda.device_count(), "GPUs"
    if devices <= found:
        return None
    return f"devices: {devices} are asked for, and this worker has {found} {what}."


def main(arguments: list[str]) -> int:
    file = Path(arguments[0])
    try:
        spec = parse_supervised(read_json(file))
    except GenPlatError as error:
        sys.stderr.write(f"{error.message}\n")
        return exit_codes.BAD_SPEC
    die_with_parent(spec.parent_pid)
    offer_to_oom_killer()
    devices = spec.command.spec.devices
    if (why := too_many(devices)) is not None:
        sys.stdout.write(Logged(level="error", message=why).model_dump_json() + "\n")
        return exit_codes.BAD_SPEC
    # Each takes all cores otherwise.
    os.environ["OMP_NUM_THREADS"] = str(max(1, thread_count() // devices))
    return torchrun(file, devices)


def leave(code: int) -> NoReturn:
    """End as the ranks did: by the same signal, so that the supervisor reads the same cause."""
    sys.stdout.flush()
    sys.stderr.flush()
    if code < 0:
        if -code != signal.SIGKILL:
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(abs(code))


if __name__ == "__main__":
    leave(main(sys.argv[1:]))
