"""Render a page as one HTML file, with the style and the script that all pages begin with.

The page runs no script but its own, and sends no requests but those that its template allows.
"""

from base64 import b64encode
from collections.abc import Callable, Mapping
from hashlib import sha256
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined


def render_page(
    package: str, name: str, filters: Mapping[str, Callable[..., Any]], variables: Mapping[str, Any]
) -> str:
    """Return the text of a page from the files `name`.html, .css and .js of a package; equal arguments, equal pages.

    The template gets the variables, and `style`, `script` (base.css and base.js, then the page's own), and
    `script_hash` for its Content-Security-Policy. Text in variables is escaped. The page has an element `data` with
    the JSON that its script reads.
    """
    environment = Environment(
        loader=PackageLoader(package, ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= filters
    # Names of games are mostly not ASCII where they are long; as \\uXXXX they would be three times as large.
    environment.policies["json.dumps_kwargs"] = {"ensure_ascii": False, "separators": (",", ":")}
    script = _read(__package__, "base.js") + _read(package, f"{name}.js")
    return environment.get_template(f"{name}.html").render(
        variables,
        style=_read(__package__, "base.css") + _read(package, f"{name}.css"),
        script=script,
        script_hash=f"sha256-{b64encode(sha256(script.encode()).digest()).decode()}",
    )


def _read(package: str, name: str) -> str:
    return files(package).joinpath(name).read_text(encoding="utf-8")
