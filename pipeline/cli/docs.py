"""The command that prints the documentation, which the wheel has too."""

import json
import re
from pathlib import Path

import click

from pipeline.cli.options import json_option, with_settings
from pipeline.cli.terminal import Command, echo_always


def read_pages() -> dict[str, str]:
    """Return the text of each page of the documentation by its name, such as `errors`."""
    package = Path(__file__).parents[1]
    in_wheel, in_repository = package / "docs", package.parent / "docs"
    pages = sorted((in_wheel if in_wheel.is_dir() else in_repository).glob("*.md"))
    return {page.stem: page.read_text(encoding="utf-8") for page in pages}


@click.command(cls=Command, epilog="steam-import docs errors private_library")
@click.argument("page", required=False)
@click.argument("section", required=False)
@json_option
@with_settings()
def docs(page: str | None, section: str | None, *, as_json: bool, **_: object) -> None:
    """Print a page of the documentation, or the names of all pages.

    SECTION is a heading of PAGE, such as an error code of the page `errors`.
    """
    pages = read_pages()
    if page is None:
        click.echo(json.dumps(list(pages)) if as_json else "\n".join(pages))
        return
    if page not in pages:
        raise click.BadParameter(f"There is no page {page!r}; there are {', '.join(pages)}.", param_hint="PAGE")
    text = _section(pages[page], section) if section else pages[page]
    if text is None:
        raise click.BadParameter(f"The page {page} has no heading {section!r}.", param_hint="SECTION")
    if as_json:
        click.echo(json.dumps({"page": page, "section": section, "text": text}))
    else:
        echo_always(text.strip())


def _section(text: str, heading: str) -> str | None:
    """Return the part of a Markdown page from a heading to the next one of the same level; None without the heading."""
    found = re.search(rf"(?m)^(#+) `?{re.escape(heading)}`?$", text)
    if found is None:
        return None
    end = re.search(rf"(?m)^#{{1,{len(found[1])}}} ", text[found.end() :])
    return text[found.start() : found.end() + end.start() if end else None]
