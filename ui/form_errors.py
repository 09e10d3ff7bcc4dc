"""What is wrong with a form, as one sentence a field, from a model's validation error."""

from typing import Any

from pydantic import ValidationError

_SENTENCES = {
    ("suffix", "string_pattern_mismatch"): (
        "Use letters, digits, dots, dashes, underscores; begin with a letter or digit."
    ),
    ("name", "string_pattern_mismatch"): (
        "Use lower-case letters, digits, dots, dashes, underscores; "
        "begin with a letter or digit; 63 characters at most."
    ),
    ("targets", "too_short"): "Choose at least one deployment.",
    ("dataset_id", "string_too_short"): "Choose one.",
    ("base_model", "string_too_short"): "Choose one.",
    ("model", "string_too_short"): "Choose one.",
    ("id", "string_too_short"): "Write owner/name, as on the Hugging Face hub, or name a folder.",
}


def field_errors(error: ValidationError) -> dict[str, str]:
    """By the first part of each place. Of a union's several complaints, the one about a literal
    such as "auto" says least."""
    found: dict[str, str] = {}
    for item in sorted(error.errors(), key=lambda item: item["type"] == "literal_error"):
        name = str(item["loc"][0]) if item["loc"] else ""
        found.setdefault(name, _sentence(name, item))
    return found


def _sentence(name: str, item: Any) -> str:
    if (name, item["type"]) in _SENTENCES:
        return _SENTENCES[name, item["type"]]
    message = str(item["msg"]).removeprefix("Value error, ").replace("Input should", "This must")
    return f"{message[:1].upper()}{message[1:]}."
