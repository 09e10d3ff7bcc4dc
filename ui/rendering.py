"""Templates in, HTML out: a whole page or one block of it. Knows no HTTP and no database."""

import hashlib
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from ui import formats

HERE = Path(__file__).parent
STATIC = HERE / "static"


@cache
def environment() -> Environment:
    """The one Jinja environment. Everything is escaped; a missing value is an error."""
    env = Environment(
        loader=FileSystemLoader(HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    env.filters.update(formats.FILTERS)
    env.globals["asset"] = asset
    # Macros come as a global and not by `import`: an import at the top of a page is not there
    # when only a block of the page is rendered.
    env.globals["ui"] = env.get_template("_macros.html").module
    return env


@cache
def asset(path: str) -> str:
    """The URL of a static file; it changes with the content, so that it may be cached."""
    digest = hashlib.sha256((STATIC / path).read_bytes()).hexdigest()[:12]
    return f"/static/{path}?v={digest}"


def render(template: str, **context: Any) -> str:
    """A whole page. ``template`` is ``<noun>/<page>.html``."""
    return environment().get_template(template).render(**context)


def render_block(template: str, block: str, **context: Any) -> str:
    """One block of a page: the same markup as inside the page, since it is the same source."""
    page = environment().get_template(template)
    return "".join(page.blocks[block](page.new_context(context))).strip()


def error_page(*, status: int, message: str, request_id: str | None = None) -> str:
    """A page for an error that no form shows."""
    return render("error.html", status=status, message=message, request_id=request_id)
