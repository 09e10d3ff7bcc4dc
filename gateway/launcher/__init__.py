"""`genplat up`: the whole platform as child processes of one. Knows nothing of what they do."""

import os
import signal
import threading
from collections.abc import Callable
from typing import TextIO

from gateway.connections import UnusableQueue, check_queue_address, open_database
from gateway.launcher.announcement import announce
from gateway.launcher.checks import (
    SERVICE_MODULES,
    VALKEY_MODULE,
    check_all,
    check_service_settings,
    prepare_data_folder,
)
from gateway.launcher.health import answers_ping
from gateway.launcher.lock import LOCK_FILE, StackLock
from gateway.launcher.logs import MergedLog
from gateway.launcher.problems import LaunchProblem
from gateway.launcher.processes import reap_adopted
from gateway.launcher.stack import STOP_GRACE_SECONDS, Stack, plan
from gateway.launcher.supervisor import Patience, Supervisor
from gateway.settings import GatewaySettings

Work = Callable[[Stack], None]


def up(
    settings: GatewaySettings,
    *,
    browser: bool,
    console: TextIO | None,
    work: Work | None = None,
) -> None:
    """Start the platform and keep it running until a signal comes.

    ``work`` runs beside it in a thread once everything is ready; an exception in it, or a
    `SystemExit`, ends the platform and is raised here.
    """
    root = settings.root
    prepare_data_folder(root, LOCK_FILE)
    lock = StackLock(root)
    lock.take()
    log = MergedLog(root / "logs", console)
    try:
        _check(settings)
        _run(settings, lock, log, browser=browser, work=work)
    finally:
        log.close()
        lock.release()


def _check(settings: GatewaySettings) -> None:
    own_valkey = "redis_url" not in settings.model_fields_set
    check_all(
        root=settings.root,
        marker=LOCK_FILE,
        host=settings.host,
        port=settings.port,
        modules=(SERVICE_MODULES, VALKEY_MODULE if own_valkey else {}),
    )
    check_service_settings(os.environ)
    if not own_valkey:
        _check_redis(settings.redis_url)
    # What is wrong with its address; whether it answers, the gateway says itself.
    open_database(settings).close()


def _check_redis(url: str) -> None:
    try:
        check_queue_address(url)
    except UnusableQueue as error:
        raise LaunchProblem(str(error)) from error
    if not answers_ping(url):
        raise LaunchProblem(
            "The Redis that GENPLAT_REDIS_URL names does not answer. Start it, correct the "
            "address or its password, or unset the variable to use the embedded Valkey."
        )


def _run(
    settings: GatewaySettings,
    lock: StackLock,
    log: MergedLog,
    *,
    browser: bool,
    work: Work | None,
) -> None:
    stack = plan(settings, os.environ)
    grace = STOP_GRACE_SECONDS
    if "stop_grace_seconds" in settings.model_fields_set:
        grace = settings.stop_grace_seconds
    supervisor = Supervisor(log, Patience(grace=grace + 2))
    _stop_on_signals(supervisor)
    failure: list[BaseException] = []
    try:
        log.say("Starting GenPlat …")
        # The queue first: the others look for it when they start.
        queue = [program for program in stack.programs if program.stop_last]
        supervisor.start(queue)
        supervisor.start(program for program in stack.programs if not program.stop_last)
        if not supervisor.stopping.is_set():
            lock.note(pid=os.getpid(), url=stack.url, queue_admin_url=stack.queue_admin_url)
            announce(log, stack, browser=browser)
            if work is not None:
                _beside(lambda: work(stack), supervisor, failure)
        first_in_container = os.getpid() == 1
        supervisor.watch(
            each_turn=lambda: reap_adopted(supervisor.process_ids) if first_in_container else None
        )
    finally:
        log.say("Stopping …")
        supervisor.stop()
    if failure:
        raise failure[0]


def _stop_on_signals(supervisor: Supervisor) -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup sets it
            signal.signal(number, lambda *_: supervisor.request_stop())


def _beside(work: Callable[[], None], supervisor: Supervisor, failure: list[BaseException]) -> None:
    def run() -> None:
        try:
            work()
        except BaseException as error:
            # Raised by the main thread; once all is being stopped, failing is no news.
            if not supervisor.stopping.is_set():
                failure.append(error)
                supervisor.request_stop()

    threading.Thread(target=run, daemon=True, name="work").start()
