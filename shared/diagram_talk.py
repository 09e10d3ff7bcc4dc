"""What is said to a model that shall draw, and what is read from its answer: the same whether our
own inference service writes or a service LLM does. Pure."""

import re

from shared.datasets import Message
from shared.diagrams import RenderedDiagram, RenderError

START, END = "@startuml", "@enduml"

INSTRUCTION = (
    "You draw diagrams. Answer with exactly one PlantUML diagram of what the user describes: "
    "PlantUML code only, the first line @startuml, the last line @enduml, no explanation."
)
# A greedy repair tends to repeat its mistake.
REPAIR_TEMPERATURE = 0.4

_BEGIN = re.compile(r"^[ \t]*@startuml\b", re.MULTILINE)
_FINISH = re.compile(r"^[ \t]*@enduml\b", re.MULTILINE)


def extract_source(text: str) -> str | None:
    """The first complete diagram in a model's answer, letter for letter; None if there is none.

    It may stand in a code fence or between sentences. A diagram inside another one is none.
    """
    # In two steps: one pattern for both would look for the end behind every beginning.
    begin = _BEGIN.search(text)
    end = _FINISH.search(text, begin.end()) if begin else None
    if begin is None or end is None or _BEGIN.search(text, begin.end(), end.start()):
        return None
    return text[begin.start() : end.end()].strip()


def source_lines(source: str) -> list[str]:
    """The lines as the renderer counts them, without blank ones around the diagram."""
    return re.split(r"\r\n|\r|\n", source.strip())


def instructed(messages: tuple[Message, ...]) -> tuple[Message, ...]:
    """For a model that never learned to draw; its user's own instructions stay."""
    first = messages[0]
    if first.role != "system":
        return (Message(role="system", content=INSTRUCTION), *messages)
    joined = first.model_copy(update={"content": f"{first.content}\n\n{INSTRUCTION}"})
    return (joined, *messages[1:])


def without_a_diagram(text: str, *, cut_off: bool) -> RenderedDiagram:
    """What is told where an answer holds none."""
    reason = "it was cut off at max_tokens" if cut_off else "see source"
    error = RenderError(
        message=f"The answer holds no complete @startuml … @enduml diagram ({reason})."
    )
    return RenderedDiagram(source=text.strip(), rendered=False, error=error)


def complaint(diagram: RenderedDiagram) -> tuple[Message, Message]:
    """The failed source, and what is wrong with it, as the next turns of the conversation."""
    error = diagram.error or RenderError(message="It cannot be rendered.")
    lines = source_lines(diagram.source)
    place = ""
    if error.line is not None and error.line <= len(lines):
        place = f" in line {error.line}: {lines[error.line - 1].strip()}"
    request = (
        f"PlantUML cannot render this{place}\n{error.message}\n"
        "Write the whole corrected diagram, from @startuml to @enduml."
    )
    return (
        Message(role="assistant", content=diagram.source),
        Message(role="user", content=request),
    )
