"""Has the processes of a run that has several devices started, and ends as they do.

Started as ``python -m trainer_service.ranks COMMAND.json`` in the place of `trainer_service.child`,
whose arguments it takes: between the supervisor and the processes that train. The supervisor needs
one child that it can kill, feed and ask for an exit code; this is it. What starts the others is
`trainer_service.launching`'s business.
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
from trainer_service.job_files import parse_supervised, read_json
from trainer_service.launching import launch, too_many

CHILD_MODULE = "trainer_service.child"


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
    return launch(CHILD_MODULE, str(file), devices=devices)


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
