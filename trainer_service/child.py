"""A training as the supervisor's child: the recipe between guards, reporting in JSON lines.

Started as ``python -m trainer_service.child SPEC.json``, or beforehand (`trainer_service.spare`) as
``--wait PARENT_PID``: then the file's name comes through stdin once there is a run. The supervisor
keeps its stdin alive, reads its stdout and its exit code; it knows neither Redis nor the gateway.
"""

import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn, TextIO

from shared import request_id
from shared.chaos import stage
from shared.errors import GenPlatError
from shared.logs import configure_logging_of_child
from shared.run_events import Advanced, Logged, Payload, Started
from trainer_service import exit_codes
from trainer_service.guards import (
    StopRequest,
    die_with_parent,
    offer_to_oom_killer,
    watch_dead_man,
)
from trainer_service.job_files import SupervisedSpec, parse_supervised, read_json, supervised_job
from trainer_service.launching import local_place
from trainer_service.outcomes import SENTENCES
from trainer_service.spare import WAIT

log = logging.getLogger("trainer_service.child")


class EventHandler(logging.Handler):
    """Turns what the trainer's own modules log into events of the run."""

    def __init__(self, report: Callable[[Payload], None]) -> None:
        super().__init__(logging.INFO)
        self.report = report

    def emit(self, record: logging.LogRecord) -> None:
        warning = record.levelno >= logging.WARNING
        message = record.getMessage()[:4000]
        self.report(Logged(level="warn" if warning else "info", message=message))


def claim_stdout() -> TextIO:
    """Stdout for events alone: whatever a library prints goes to stderr."""
    events = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return events


def reporter(events: TextIO, stop: StopRequest, *, leads: bool) -> Callable[[Payload], None]:
    def report(payload: Payload) -> None:
        if isinstance(payload, Advanced) and payload.phase == "training":
            stop.deferred = True
        # What goes wrong is said by whomever it hits; of what goes well one tells.
        if not leads and not (isinstance(payload, Logged) and payload.level == "error"):
            return
        events.write(payload.model_dump_json(exclude_none=True) + "\n")
        events.flush()

    return report


def wait_for_command(parent_pid: int) -> str:
    """Load what every training needs, and wait for the name of a command's file. A worker that
    ends without one closes the pipe."""
    die_with_parent(parent_pid)
    offer_to_oom_killer()
    import trainer_service.finetune  # noqa: F401

    # Byte by byte: behind the name come the signs of life that the dead man's watch reads.
    name = b""
    while not name.endswith(b"\n"):
        byte = os.read(sys.stdin.fileno(), 1)
        if not byte:
            raise exit_codes.Preempted
        name += byte
    return name.decode().rstrip("\n")


def train(spec: SupervisedSpec, report: Callable[[Payload], None], stop: StopRequest) -> None:
    # Imported when the guards stand: torch takes seconds, in which a parent may die.
    from trainer_service.data_parallel import join, part
    from trainer_service.finetune import fine_tune, quiet_libraries
    from trainer_service.hardware import find_device

    quiet_libraries()
    device = find_device()
    report(Started(worker=spec.worker, device=device.label))
    job = supervised_job(spec)
    ranks = join(device.torch_name)
    report(
        fine_tune(
            job, report, check=stop.check, stop=lambda: stop.enough, device=device, ranks=ranks
        )
    )
    part()


def explain(error: BaseException, code: int) -> str:
    """The sentence for the run's owner."""
    if isinstance(error, GenPlatError):
        return error.message
    if code in SENTENCES:
        return SENTENCES[code]
    first = (str(error).strip().splitlines() or [""])[0]
    return f"Training stopped with {type(error).__name__}: {first}"[:1000]


def main(arguments: list[str]) -> int:
    stop = StopRequest()
    stop.install()
    events = claim_stdout()
    configure_logging_of_child()
    place = local_place()
    report = reporter(events, stop, leads=place.leads)
    logging.getLogger("trainer_service").addHandler(EventHandler(report))
    try:
        path = wait_for_command(int(arguments[1])) if arguments[0] == WAIT else arguments[0]
        spec = parse_supervised(read_json(Path(path)))
        request_id.go_on(spec.command.request_id)
        # Under torchrun that is the parent, and has the same guards.
        die_with_parent(spec.parent_pid if place.size == 1 else 0)
        offer_to_oom_killer()
        if place.leads:
            watch_dead_man(
                sys.stdin.fileno(), spec.dead_man_seconds, stop.finish, alive_at=spec.alive_at
            )
            stage("child_started", f"{spec.worker} {spec.command.job_id}")
        train(spec, report, stop)
    except exit_codes.Preempted:
        return exit_codes.PREEMPTED
    except BrokenPipeError:
        return exit_codes.PREEMPTED
    except Exception as error:
        code = exit_codes.exit_code_of(error)
        if code == exit_codes.CRASHED:
            logging.getLogger("child").exception("Training crashed")
        report(Logged(level="error", message=explain(error, code)))
        return code
    return exit_codes.OK


def leave(code: int) -> NoReturn:
    """End without Python's tidying up, which hangs now and then: the dead man's thread wakes in it
    while torch is torn down. A result that is published would then never be reported."""
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    leave(main(sys.argv[1:]))
