"""Exactly one diagram: found in an answer letter for letter, and never two in one source."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference_service.plantuml.source import check_source, pipe_text
from shared.diagram_talk import extract_source

GOOD = "@startuml\nA -> B : hello\n@enduml"
# Letters of diagrams, of fences, and of the keywords that matter.
PIECES = st.lists(
    st.sampled_from(
        ["@startuml", "@enduml", "@start", "@end", "\n", " ", "A -> B", "```", "plantuml", "x", "é"]
    )
)


@pytest.mark.parametrize(
    "answer",
    [
        GOOD,
        f"Here it is:\n```plantuml\n{GOOD}\n```\nDo you like it?",
        f"~~~\n{GOOD}\n~~~",
        f"\n\n  {GOOD}\n\n",
        f"{GOOD}\nAnd another one:\n{GOOD}",
        f"I say @startuml in a sentence.\n{GOOD}",
    ],
)
def test_a_diagram_is_found_in_fences_and_prose(answer: str) -> None:
    assert extract_source(answer) == GOOD


@pytest.mark.parametrize(
    "answer",
    [
        "",
        "I cannot draw.",
        "@startuml\nA -> B",
        "A -> B\n@enduml",
        "@startuml\nA -> B\n@startuml\nC -> D\n@enduml",
        "@startuml A -> B @enduml",
        "@startmindmap\n* a\n@endmindmap",
    ],
)
def test_where_there_is_no_complete_diagram_none_is_made_up(answer: str) -> None:
    assert extract_source(answer) is None


@given(PIECES)
def test_what_is_extracted_stands_in_the_answer_and_is_one_diagram(pieces: list[str]) -> None:
    answer = "".join(pieces)
    source = extract_source(answer)
    if source is not None:
        assert source in answer
        assert source.startswith("@startuml")
        assert source.endswith("@enduml")


@given(st.text(st.characters(codec="utf-8"), max_size=200), PIECES)
def test_whatever_passes_the_check_is_one_diagram_for_a_pipe(text: str, pieces: list[str]) -> None:
    source = f"@startuml\n{text}{''.join(pieces)}\n@enduml"
    if check_source(source) is None:
        lines = pipe_text(source).decode().split("\n")
        assert lines[0] == "@startuml"
        assert lines[-2:] == ["@enduml", ""]
        assert not any(line.startswith(("@start", "@end", "@@@")) for line in lines[1:-2])
        assert "\r" not in pipe_text(source).decode()


@pytest.mark.parametrize(
    ("source", "line"),
    [
        ("", 1),
        ("A -> B", 1),
        ("@startdot\ndigraph a {}\n@enddot", 1),
        ("@startditaa\n+-+\n@endditaa", 1),
        ("@startuml\nA -> B", 2),
        ("@startuml\n \n@enduml", 1),
        ("@startuml\nA -> B\n@enduml\n@startuml\nC -> D\n@enduml", 3),
        ("@startuml\nA -> B\n  @enduml\nC -> D\n@enduml", 3),
        ("@startuml\nA -> B\n' @enduml\nC -> D\n@enduml", 3),
        ("@startuml\nA -> B\n<b>@enduml\nC -> D\n@enduml", 3),
        ("@startuml\nA -> B\n\\enduml\nC -> D\n@enduml", 3),
        ("@startuml\n@@@format png\nA -> B\n@enduml", 2),
        ("@startuml\nA -> B\r@enduml\rC -> D\n@enduml", 3),
        ("@startuml\nA -> B\x00\n@enduml", 2),
        ("@startuml\nA -> B\u2028@enduml\n@enduml", 2),
        ("@startuml\n" + "A -> B\n" * 8000 + "@enduml", None),
        ("@startuml\nA -> \ud800\n@enduml", None),
    ],
)
def test_all_else_is_refused_with_its_line(source: str, line: int | None) -> None:
    error = check_source(source)
    assert error is not None
    assert error.line == line


@pytest.mark.parametrize(
    "body", ["A -> B : me@endpoint.example", "note left: @start of it", "[c] #red", "A -> B: <b>x"]
)
def test_harmless_lines_pass(body: str) -> None:
    assert check_source(f"@startuml\n{body}\n@enduml") is None


def test_a_file_name_behind_startuml_does_not_reach_the_renderer() -> None:
    assert pipe_text("@startuml ../../x.png\nA -> B\n  @enduml") == b"@startuml\nA -> B\n@enduml\n"


@pytest.mark.parametrize("piece", ["<>", "<", " ", "\\", "<b>\\", "!<!>", "\t<"])
def test_the_check_of_a_hostile_line_takes_no_time(piece: str) -> None:
    line = piece * (40_000 // len(piece))
    began = time.thread_time()
    error = check_source(f"@startuml\n{line}@enduml\nA->B\n@enduml")
    # It takes milliseconds; one that looked for keywords again at each place would take seconds.
    assert time.thread_time() - began < 0.5
    assert error is not None
    assert error.line == 2


@pytest.mark.parametrize("ended", [False, True])
def test_a_model_that_only_begins_diagrams_takes_no_time(ended: bool) -> None:
    text = "@startuml\n" * 20_000 + ("@enduml" if ended else "")
    began = time.thread_time()
    assert extract_source(text) is None
    assert time.thread_time() - began < 0.5
