"""Starts the processes of a run that has several devices; knows neither the run nor its supervisor.

`LAUNCHER` is the one place that decides what starts them. What starts those of several hosts, such
as Ray Train, is another `Launcher`: the processes find each other by the variables that torchrun
sets (RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR), and everything else is the same.
"""

import os
from typing import Final, NamedTuple, Protocol

from trainer_service import exit_codes
from trainer_service.hardware import available_cores, thread_count


class Launcher(Protocol):
    """Runs ``python -m module argument`` once a device and waits for all of them. Where one ends
    otherwise than well the others are ended too, and its exit code is the answer (negative: the
    signal that killed it), else `exit_codes.OK`; `exit_codes.PREEMPTED` where a signal came from
    outside. A SIGTERM reaches every process."""

    def __call__(self, module: str, argument: str, *, devices: int) -> int: ...


def torchrun(module: str, argument: str, *, devices: int) -> int:
    """All processes on this host."""
    # Imported here: it loads torch, and a parent may die meanwhile.
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.run import get_args_parser, run

    arguments = ["--standalone", f"--nproc-per-node={devices}", "--max-restarts=0"]
    parsed = get_args_parser().parse_args([*arguments, "--module", module, argument])
    try:
        run(parsed)  # type: ignore[no-untyped-call]
    except ChildFailedError as error:
        _, failure = error.get_first_failure()
        return failure.exitcode
    except SignalException:
        return exit_codes.PREEMPTED
    return exit_codes.OK


LAUNCHER: Final[Launcher] = torchrun


def launch(module: str, argument: str, *, devices: int) -> int:
    """Run ``module`` on so many devices; the exit code, as a `Launcher` tells it."""
    # Each takes all cores otherwise.
    os.environ["OMP_NUM_THREADS"] = str(max(1, thread_count() // devices))
    return LAUNCHER(module, argument, devices=devices)


def too_many(devices: int) -> str | None:
    """Why so many processes make no sense here, in a sentence; None where they do."""
    import torch

    found, what = available_cores(), "processor cores"
    if torch.cuda.is_available():
        found = torch.cuda.device_count()
        what = "GPU" if found == 1 else "GPUs"
    elif torch.backends.mps.is_available():
        found, what = 1, "GPU"
    if devices <= found:
        return None
    return f"devices: {devices} are asked for, and this worker has {found} {what}."


class LocalPlace(NamedTuple):
    """Which of the processes that were started on this machine this one is."""

    rank: int
    size: int

    @property
    def leads(self) -> bool:
        return self.rank == 0


ALONE: Final = LocalPlace(0, 1)


def local_place() -> LocalPlace:
    """This process's place; where it is one of several, its GPU is the only one that it sees from
    then on. To be asked once, before anything is loaded that looks at GPUs."""
    rank, size = int(os.environ.get("LOCAL_RANK", 0)), int(os.environ.get("LOCAL_WORLD_SIZE", 1))
    if size > 1:
        seen = os.environ.get("CUDA_VISIBLE_DEVICES")
        names = seen.split(",") if seen is not None else [str(number) for number in range(size)]
        os.environ["CUDA_VISIBLE_DEVICES"] = names[rank] if rank < len(names) else ""
    return LocalPlace(rank, size)
