"""What a person is told when the platform is ready; knows nothing of how it was started."""

import os
import sys
import threading
import webbrowser

from gateway.launcher.logs import MergedLog
from gateway.launcher.stack import Stack


def announce(log: MergedLog, stack: Stack, *, browser: bool) -> None:
    """Show the link that logs in, and right above it what will not work."""
    if problem := stack.diagram_problem():
        log.write("genplat", f"WARNING: no diagrams can be drawn. {problem} All else works.")
    log.say(f"\nGenPlat is ready. Log in here:\n\n    {stack.login_url}\n\nCtrl-C stops it.\n")
    if browser and _has_display():
        threading.Thread(target=webbrowser.open, args=(stack.login_url,), daemon=True).start()


def _has_display() -> bool:
    """Without one, a text browser would take the terminal over."""
    if sys.platform == "linux":
        return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
    return True
