"""Renders a prepared model's chat template as transformers would, without transformers.

How long a template runs and how much it writes is not limited here, but in the process that runs
it. The environment repeats `transformers.utils.chat_template_utils`; a test compares the two.
"""

import json
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Any, NoReturn

import jinja2
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

# The longest of known models take a tenth of it.
MAX_TEMPLATE_BYTES = 256 * 1024
MAX_CONFIG_BYTES = 32 * 1024 * 1024
_TOKENS = ("bos_token", "eos_token", "pad_token", "unk_token")


@dataclass(frozen=True)
class ChatTemplate:
    """A model's chat format and the tokens it may name."""

    source: str
    tokens: tuple[tuple[str, str], ...]

    @property
    def eos_token(self) -> str:
        return dict(self.tokens).get("eos_token", "")

    def render(self, messages: list[dict[str, str]], *, add_generation_prompt: bool) -> str:
        """The prompt's text; jinja2.TemplateError where the template refuses the messages."""
        try:
            return _compile(self.source).render(
                messages=messages,
                tools=None,
                documents=None,
                add_generation_prompt=add_generation_prompt,
                **dict(self.tokens),
            )
        except jinja2.TemplateError:
            raise
        except Exception as error:
            # A template is a program that came with a model: it may fail in any way.
            raise jinja2.TemplateError(f"{type(error).__name__}: {error}") from error


def load_chat_template(folder: Path) -> ChatTemplate | None:
    """The template in a prepared model's folder, or None where it has none."""
    config = _json(folder / "tokenizer_config.json")
    source = _text(folder / "chat_template.jinja") or _default_template(config.get("chat_template"))
    if not source or len(source) > MAX_TEMPLATE_BYTES:
        return None
    special = {**_json(folder / "special_tokens_map.json"), **config}
    tokens = ((name, _token(special.get(name))) for name in _TOKENS)
    return ChatTemplate(source, tuple((name, text) for name, text in tokens if text))


def _default_template(found: Any) -> str:
    if isinstance(found, str):
        return found
    for item in found if isinstance(found, list) else ():
        if isinstance(item, dict) and item.get("name") == "default":
            return str(item.get("template", ""))
    return ""


def _token(found: Any) -> str:
    if isinstance(found, dict):
        found = found.get("content")
    return found if isinstance(found, str) else ""


def _text(path: Path) -> str:
    if not path.is_file() or path.stat().st_size > MAX_TEMPLATE_BYTES:
        return ""
    return path.read_text(encoding="utf-8")


def _json(path: Path) -> dict[str, Any]:
    # Some tokenizers list thousands of added tokens here.
    if not path.is_file() or path.stat().st_size > MAX_CONFIG_BYTES:
        return {}
    found = json.loads(path.read_text(encoding="utf-8"))
    return found if isinstance(found, dict) else {}


class _Generation(Extension):
    """`{% generation %}` marks answers for transformers; here it is only stepped over."""

    tags = {"generation"}  # noqa: RUF012 - jinja2's own declaration

    def parse(self, parser: Parser) -> list[jinja2.nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _refuse(message: str) -> NoReturn:
    raise jinja2.TemplateError(message)


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


@lru_cache(maxsize=32)
def _compile(source: str) -> jinja2.Template:
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols]
    )
    environment.filters["tojson"] = _tojson
    environment.globals["raise_exception"] = _refuse
    environment.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
    return environment.from_string(source)
