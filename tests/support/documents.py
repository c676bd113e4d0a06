"""The README, docs/ and the notebooks: their tables, shell examples and outputs.

`python -m tests.support.documents` writes the tables from the schemas and the rules.
"""

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pandera.polars as pa

from pipeline.cli import cli
from pipeline.cli.doctor import declared_settings
from pipeline.frames.name_rules import RULES
from schemas.catalogue import Catalogue, Overrides
from schemas.library import EnrichedLibrary, RawLibrary
from schemas.report import History, LibraryChanges
from schemas.review import MOST_CANDIDATES, ReviewSheet

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
DOCUMENTS = (README, ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md")))
WITH_TABLES = (README, *(ROOT / "docs" / f"{name}.md" for name in ("columns", "deciding", "settings")))
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
BLOCK = re.compile(r"(?ms)^ *```(\w*)\n(.*?)^ *```$")
COMMAND = re.compile(
    r"(?m)^ *(?:\w+=\"?\$\()?(?:\.venv/bin/)?(?:steam-import|make|python3? -m|aws|sam|uv|pipx?)(?= )(?:\\\n|[^\n])*"
)
CALL = re.compile(r"(?<![\w/-])(?:\.venv/bin/)?steam-import (?P<words>[^\n|;)]*)")
MODELS: dict[str, type[pa.DataFrameModel]] = {
    model.__name__: model for model in (EnrichedLibrary, Overrides, Catalogue, LibraryChanges, History, ReviewSheet)
}

GENRES = '[{"id":9,"name":"Puzzle","slug":"puzzle","checksum":"3f1a"}]'
PLATFORMS = (
    '[{"id":6,"name":"PC (Microsoft Windows)","slug":"win","abbreviation":"PC","alternative_name":null,'
    '"generation":null,"platform_family":null,"platform_type":4,"checksum":"9d2c"}]'
)
EXAMPLES = {
    "user_id": "user-1",
    "steam_id64": "76561197960287930",
    "appid": "620",
    "name": "Portal 2",
    "playtime_forever": "1896",
    "playtime_2weeks": "90",
    "playtime_windows_forever": "1500",
    "playtime_mac_forever": "0",
    "playtime_linux_forever": "396",
    "playtime_deck_forever": "396",
    "rtime_last_played": "2026-11-20T20:15:00Z",
    "img_icon_url": "2e478fc6874d06ae5baf0d147f6f21203291aa02",
    "kind": "game",
    "kind_reason": "store:game",
    "match_status": "MATCHED",
    "match_reason": "external_game",
    "igdb_id": "72",
    "igdb_name": "Portal 2",
    "igdb_slug": "portal-2",
    "igdb_summary": "Sequel to the acclaimed Portal.",
    "igdb_first_release_date": "2011-04-19T00:00:00Z",
    "igdb_cover_url": "https://images.igdb.com/igdb/image/upload/t_cover_big/co1rs4.jpg",
    "igdb_game_type": "0",
    "igdb_genres": GENRES,
    "igdb_platforms": PLATFORMS,
    "igdb_candidates": "[72,73]",
    "action": "match",
    "override_igdb_id": "72",
    "store_type": "game",
    "store_asked_at": "2026-11-20T03:17:49Z",
    "version_parent": "71",
    "genres": GENRES,
    "platforms": PLATFORMS,
    "candidates": "[72,73]",
    "looked_up_at": "2026-11-20T03:17:49Z",
    "is_new": "false",
    "is_no_longer_owned": "false",
    "is_newly_matched": "true",
    "old_name": "Portal II",
    "minutes_played": "90",
    "fetched_at": "2026-11-20T03:17:49Z",
    "since": "2026-11-13T03:17:49Z",
    "owners": "3",
    "matched_id": "71",
    "matched": "Portal",
    "proposed": "game",
    "decided": "match 71",
    "note": "the sequel",
} | {
    f"candidate_{number}{what}": example
    for number in range(1, MOST_CANDIDATES + 1)
    for what, example in {"_id": "72", "": "Portal 2 (2011, main game, PC)", "_score": "100"}.items()
}
"""One of each column, as a CSV would hold it."""

IN_FILE = {"override_igdb_id": "igdb_id"}
"""Columns that their file calls otherwise."""


def column_table() -> str:
    raw = RawLibrary.to_schema().columns
    rows = [
        f"| `{name}` | {'raw' if name in raw else 'enriched'} | {_type(str(column.dtype))} | {column.description} |"
        for name, column in EnrichedLibrary.to_schema().columns.items()
    ]
    return "\n".join(["| column | since | type | what it is |", "|---|---|---|---|", *rows])


def dictionary(model: type[pa.DataFrameModel]) -> str:
    rows = [
        f"| `{IN_FILE.get(name, name)}` | {_exact_type(str(column.dtype))} | {'yes' if column.nullable else 'no'} "
        f"| {column.description} | `{EXAMPLES[name]}` |"
        for name, column in model.to_schema().columns.items()
    ]
    return "\n".join(["| column | type | null | what it is | example |", "|---|---|---|---|---|", *rows])


def rule_table() -> str:
    rows = [
        f"| `{rule.name}` | {rule.kind} | {'yes' if rule.beats_store else ''} | {rule.evidence} |" for rule in RULES
    ]
    return "\n".join(["| rule | kind | though the store says game | evidence |", "|---|---|---|---|", *rows])


def settings_table() -> str:
    rows = [f"| `{s.name}` | {s.type} | {s.default} | {s.meaning} |" for s in declared_settings()]
    return "\n".join(["| setting | type | default | what it is |", "|---|---|---|---|", *rows])


def with_tables(document: str) -> str:
    document = _with(document, "settings", settings_table())
    document = _with(document, "columns", column_table())
    document = _with(document, "rules", rule_table())
    for name, model in MODELS.items():
        document = _with(document, f"dictionary {name}", dictionary(model))
    return document


def _with(document: str, marker: str, table: str) -> str:
    end = marker.split(maxsplit=1)[0]
    return re.sub(rf"(?s)(<!-- {marker} -->\n).*?(<!-- /{end} -->)", lambda m: f"{m[1]}{table}\n{m[2]}", document)


def _type(dtype: str) -> str:
    return {"String": "text", "Int32": "integer"}.get(dtype, "time" if dtype.startswith("Datetime") else "one of a set")


def _exact_type(dtype: str) -> str:
    exact = {"String": "text", "Int32": "integer, 32 bits", "Int64": "integer, 64 bits", "Boolean": "true or false"}
    if dtype.startswith("Enum"):
        return ", ".join(re.findall(r"'(\w+)'", dtype))
    return exact.get(dtype, "time, UTC" if dtype.startswith("Datetime") else "list")


def blocks_of(document: Path, *languages: str) -> list[str]:
    """Its blocks of shell that a reader types one after the other, or those of other languages, in their order."""
    blocks = BLOCK.findall(document.read_text(encoding="utf-8"))
    return [block for language, block in blocks if language in (languages or ("sh",))]


def script_of(document: Path) -> list[str]:
    """The blocks of a document that its test runs; those of make are commands of a checkout, and run elsewhere."""
    blocks = [block for block in blocks_of(document) if not block.lstrip().startswith("make ")]
    return blocks if any(CALL.search(block) for block in blocks) else []


def commands_of(block: str) -> list[str]:
    """The commands of a block that are ours, or that install or deploy what is ours, without their comments."""
    return [re.sub(r"\s+#.*", "", command[0]).strip() for command in COMMAND.finditer(block)]


def calls_of(script: str) -> Iterator[list[str]]:
    """The words of each call of the program, without its name."""
    for call in CALL.finditer(re.sub(r"(?m)\s+#.*$", "", script)):
        yield shlex.split(re.sub(r"[<>].*", "", call["words"]))


def mentions_of(document: Path) -> list[list[str]]:
    """The same of what a text names in passing, `steam-import review export` say: arguments may be left out."""
    return [words.split() for words in re.findall(r"`steam-import ([^`]+)`", document.read_text(encoding="utf-8"))]


def check_call(words: list[str], *, is_whole: bool = True) -> None:
    """Raise click's UsageError where the program would, but for files that are not there."""
    command: click.Command | None = cli
    context = click.Context(cli, info_name="steam-import")
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        name, command, words = command.resolve_command(context, words)
        assert command, name
        context = click.Context(command, parent=context, info_name=name)
    if command is None or (isinstance(command, click.Group) and not command.invoke_without_command):
        assert not is_whole, "a group does nothing by itself"
        return
    given, rest, _ = command.make_parser(context).parse_args(list(words))
    assert not rest, f"{command.name} does not take {rest}"
    lacking = [param.name for param in command.params if param.required and not isinstance(given[str(param.name)], str)]
    assert not (is_whole and lacking), f"{command.name} lacks {lacking}"


def code_cells(notebook: Path) -> list[dict[str, Any]]:
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    return [cell for cell in cells if cell["cell_type"] == "code"]


def texts(cell: dict[str, Any]) -> list[str]:
    """All that a cell shows but its pictures."""
    shown = [text for output in cell["outputs"] for kind, text in output.get("data", {}).items() if kind != "image/png"]
    return ["".join(text) for text in (*shown, *(output.get("text", "") for output in cell["outputs"]))]


if __name__ == "__main__":
    for path in WITH_TABLES:
        path.write_text(with_tables(path.read_text(encoding="utf-8")), encoding="utf-8")
