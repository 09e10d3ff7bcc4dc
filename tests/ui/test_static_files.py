"""What is served as a file: vendored code unchanged, and nothing that the policy forbids."""

import hashlib
import re
from pathlib import Path

import pytest

from ui.rendering import HERE, STATIC, asset

VENDOR = STATIC / "vendor"
ROW = re.compile(r"^\| (\S+) \| \S+ \| \S+ \| ([^|]+) \| ([0-9a-f]{64}) \|$", re.MULTILINE)
TEMPLATES = sorted((HERE / "templates").rglob("*"))
# Ways for a text to become markup or code, and what a strict policy refuses anyway.
FORBIDDEN = (
    "|safe",
    "| safe",
    "Markup(",
    "innerHTML",
    "outerHTML =",
    "insertAdjacentHTML",
    "document.write",
    "eval(",
    "hx-on",
    "onclick",
    "onload=",
    "style=",
    "<style",
    "javascript:",
    "autoescape false",
)


def vendored() -> dict[str, tuple[str, str]]:
    table = (VENDOR / "VENDORED.md").read_text(encoding="utf-8")
    return {name: (licence, digest) for name, licence, digest in ROW.findall(table)}


def test_vendored_files_are_what_their_table_says() -> None:
    code = (path for path in VENDOR.rglob("*") if path.suffix in (".js", ".css"))
    # The few lines that start Swagger are ours and lie beside it.
    files = {path.relative_to(VENDOR).as_posix() for path in code if path.name != "start.js"}
    assert files == set(vendored())
    for name, (_, digest) in vendored().items():
        assert hashlib.sha256((VENDOR / name).read_bytes()).hexdigest() == digest, name


def test_every_vendored_file_has_its_licence() -> None:
    for name, (licence, _) in vendored().items():
        found = re.search(r"\((\S+)\)", licence)
        assert found and (VENDOR / found[1]).is_file(), name


@pytest.mark.parametrize("word", FORBIDDEN)
def test_no_way_from_text_to_code(word: str) -> None:
    sources = [*HERE.rglob("*.py"), *(path for path in TEMPLATES if path.is_file())]
    sources += [path for path in STATIC.glob("*") if path.suffix == ".js"]
    assert [path.name for path in sources if word in path.read_text(encoding="utf-8")] == []


def test_templates_are_html_and_scripts_come_from_files() -> None:
    for path in (path for path in TEMPLATES if path.is_file()):
        assert path.suffix == ".html", path
        text = path.read_text(encoding="utf-8")
        assert all(" src=" in tag for tag in re.findall(r"<script[^>]*>", text)), path
        assert not re.search(r"\s[\w-]+=\{[{%]", text), f"an attribute without quotes in {path}"


def test_pages_load_nothing_from_elsewhere() -> None:
    for path in (*STATIC.glob("*.*"), *(path for path in TEMPLATES if path.is_file())):
        text = path.read_text(encoding="utf-8").replace("http://www.w3.org/", "")
        assert not re.search(r"https?://|//[a-z]+\.[a-z]", text), path


def test_a_changed_file_gets_another_address() -> None:
    assert re.fullmatch(r"/static/app\.css\?v=[0-9a-f]{12}", asset("app.css"))
    with pytest.raises(FileNotFoundError):
        asset(str(Path("no-such-file.css")))
