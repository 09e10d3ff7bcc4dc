"""How much two PlantUML sources say the same, line by line. Pure; knows no model and no renderer.

Spaces, quotes, comments and the names of aliases do not count: two sources are compared by the
lines they draw. Lines without a letter or a digit (a closing brace) are left out.
"""

import re
from collections import Counter
from collections.abc import Iterator, Sequence

_NAME = r"[\w.]+"
_KINDS = (
    "abstract class|actor|agent|artifact|binary|boundary|circle|class|clock|cloud|collections|"
    "component|concise|control|database|entity|enum|file|folder|frame|interface|node|object|"
    "package|participant|queue|rectangle|robust|stack|state|storage|usecase"
)
# Ways to declare an alias; each has the groups before, label, alias, after.
_DECLARATIONS = tuple(
    re.compile(pattern)
    for pattern in (
        rf'(?P<before>.*?)"(?P<label>[^"]*)"\s+as\s+(?P<alias>{_NAME})(?P<after>.*)',
        rf'(?P<before>\w+\s+)(?P<alias>{_NAME})\s+as\s+"(?P<label>[^"]*)"(?P<after>.*)',
        rf"(?P<before>.*?)(?P<label>\([^()]*\)|\[[^][]*\]|:[^:]*:)\s+as\s+(?P<alias>{_NAME})"
        r"(?P<after>.*)",
        rf"(?P<before>(?:{_KINDS})\s+)(?P<label>{_NAME})\s+as\s+(?P<alias>{_NAME})(?P<after>.*)",
    )
)
_QUOTED = re.compile(r'"[^"]*"')
_SPACES = re.compile(r"\s+")


def drawn_lines(source: str) -> Counter[str]:
    """The lines that count, normalised, each with how often it stands there."""
    lines = [_strip(line) for line in _body(source)]
    declared = [_declaration(line) for line in lines]
    labels = {found["alias"]: found["label"] for found in declared if found}
    normal = (_normal(line, found, labels) for line, found in zip(lines, declared, strict=True))
    return Counter(line for line in normal if any(map(str.isalnum, line)))


def structure_f1(candidate: str, reference: str) -> float:
    """1 where both draw the same lines, 0 where they share none. Symmetric."""
    left, right = drawn_lines(candidate), drawn_lines(reference)
    total = left.total() + right.total()
    return 2 * (left & right).total() / total if total else 1.0


def mean_structure_f1(pairs: Sequence[tuple[str, str]]) -> float:
    """The average over (candidate, reference) pairs; 0 where there are none."""
    return sum(structure_f1(*pair) for pair in pairs) / len(pairs) if pairs else 0.0


def _body(source: str) -> list[str]:
    """The lines between the markers, without comments."""
    return [
        line
        for line in "".join(_outside_comments(source)).splitlines()
        if not line.lstrip().startswith(("@startuml", "@enduml", "'"))
    ]


def _outside_comments(source: str) -> Iterator[str]:
    """What stands outside of /' … '/; one without an end goes to the source's."""
    end = 0
    while (begin := source.find("/'", end)) >= 0:
        yield source[end:begin]
        close = source.find("'/", begin + 2)
        if close < 0:
            return
        end = close + 2
    yield source[end:]


def _strip(line: str) -> str:
    return _SPACES.sub(" ", line).strip()


def _declaration(line: str) -> re.Match[str] | None:
    if line.endswith(";"):  # an activity's text, which may hold the word "as"
        return None
    for pattern in _DECLARATIONS:
        if found := pattern.fullmatch(line):
            return found
    return None


def _normal(line: str, found: re.Match[str] | None, labels: dict[str, str]) -> str:
    if found:
        line = found["before"] + found["label"] + found["after"]
    else:
        head, colon, text = _split_text(line)
        line = _with_labels(head, labels) + colon + text
    return _SPACES.sub("", line).replace('"', "")


def _split_text(line: str) -> tuple[str, str, str]:
    """What is drawn and, after the first colon outside quotes, what is written on it."""
    masked = _QUOTED.sub(lambda quoted: '"' * len(quoted[0]), line)
    head, colon, _ = masked.partition(":")
    return line[: len(head)], colon, line[len(head) + len(colon) :]


def _with_labels(head: str, labels: dict[str, str]) -> str:
    """``head`` with every alias outside quotes replaced by what it stands for."""
    if not labels:
        return head
    names = "|".join(re.escape(alias) for alias in sorted(labels, key=len, reverse=True))
    token = re.compile(rf'"[^"]*"|(?<![\w.])(?:{names})(?![\w.])')
    return token.sub(lambda match: labels.get(match[0], match[0]), head)
