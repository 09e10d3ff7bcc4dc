"""What pydantic finds wrong, as one of our errors."""

from pydantic import ValidationError

from shared.errors import InvalidRequest


def refusal(error: ValidationError) -> InvalidRequest:
    """The first problem, as a sentence that begins with its field. (What stands behind the field
    in a location may be the member of a union, which means nothing to a reader.)"""
    first = error.errors(include_url=False, include_input=False)[0]
    field = str(first["loc"][0]).encode(errors="replace").decode()[:200] if first["loc"] else ""
    said = str(first["msg"]).removeprefix("Value error, ").rstrip(".")
    return InvalidRequest(f"{field}: {said}." if field else f"{said}.", param=field)
