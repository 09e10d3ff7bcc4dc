"""What /proc says of processes: who lives, who belongs to a stack, how many files are open."""

import os
from pathlib import Path


def start_time(pid: int) -> int | None:
    """When a living process was started (in ticks since boot); None for a dead one or a zombie.
    Together with its number it names a process for good."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] in "ZX" else int(fields[19])


def alive(pid: int) -> bool:
    return start_time(pid) is not None


def open_files(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


def with_environment(needle: str) -> list[int]:
    """Living processes that were started with this in their environment, however they came to be
    where they are; not this one."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            inside = needle.encode() in (entry / "environ").read_bytes()
        except (OSError, ProcessLookupError):
            continue
        if inside and alive(int(entry.name)):
            found.append(int(entry.name))
    return found


def command_of(pid: int) -> str:
    try:
        raw = Path(f"/proc/{pid}/cmdline").read_bytes()
    except (OSError, ProcessLookupError):
        return ""
    return raw.replace(b"\0", b" ").decode(errors="replace")


def descendants(pid: int) -> list[int]:
    """The children of a process, and theirs."""
    found = []
    for entry in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in map(int, entry.read_text().split()):
            found += [child, *descendants(child)]
    return found
