"""What pydantic finds wrong, as one of our errors."""

from pydantic import ValidationError

from shared.errors import InvalidRequest


def refusal(error: ValidationError) -> InvalidRequest:
    """The first problem, as a sentence that begins with its field."""
    first = error.errors(include_url=False, include_input=False)[0]
    field = ".".join(map(str, first["loc"])).encode(errors="replace").decode()[:200]
    said = str(first["msg"]).removeprefix("Value error, ").rstrip(".")
    return InvalidRequest(f"{field}: {said}." if field else f"{said}.", param=field or None)
