"""Read people's decisions from the review sheet that they filled in, and write them into overrides.csv."""

import csv
from codecs import BOM_UTF8
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from io import StringIO
from operator import attrgetter
from typing import NamedTuple

from pipeline.apis.batching import all_rows, all_unanswered, raise_if_all_failed
from pipeline.apis.igdb import Igdb
from pipeline.catalogue.look_up import OVERRIDES
from pipeline.errors import Failed, agree
from pipeline.frames.overrides import check_overrides_format, describe_fault
from pipeline.storage.csv import CsvRecord, parse_header, parse_records, strip_decimals
from pipeline.storage.store import Store, rewrite
from schemas.apis import parse_rows
from schemas.catalogue import OVERRIDES_HEADER
from schemas.review import Decision, FoundGame

_ENCODING_ERRORS = "surrogateescape"
"""The error handler with which bytes that are not UTF-8 are written back as they were read."""


class SkippedLine(NamedTuple):
    """A line of a review sheet that is not applied: its number and the reason."""

    line: int
    why: str


class FilledSheet(NamedTuple):
    """The decisions of a filled-in review sheet, at most one for an app, and the lines that are skipped."""

    decisions: Sequence[Decision]
    skipped: Sequence[SkippedLine]


@dataclass(frozen=True)
class AppliedReview:
    """The result of applying a review sheet: a line "app → game" per decided app, and the lines that are skipped."""

    decided: Sequence[str]
    skipped: Sequence[SkippedLine]


@dataclass(frozen=True)
class NamedGames:
    """The names of games on IGDB by their ids, and the ids of games that IGDB gave no answer for."""

    names: Mapping[int, str]
    unanswered: Collection[int] = ()


async def name_games(igdb: Igdb, decisions: Iterable[Decision]) -> NamedGames:
    """Ask IGDB once for all games to which decisions match an app, and return their names.

    Raises:
        Retryable: `igdb_unavailable`, if IGDB answered for none of them.
    """
    answers = await igdb.fetch_games({one.igdb_id for one in decisions if one.igdb_id is not None})
    raise_if_all_failed(answers)
    games = parse_rows(all_rows(answers), FoundGame)[0]
    return NamedGames({game.id: game.name for game in games}, set(all_unanswered(answers)))


def apply_review(store: Store, sheet: FilledSheet, games: NamedGames, apps: Mapping[int, str | None]) -> AppliedReview:
    """Write the decisions of a filled-in review sheet into overrides.csv, and return what is decided and skipped.

    Args:
        store: The store that has overrides.csv.
        sheet: The decisions of the sheet, and its lines that are skipped already.
        games: What IGDB says about the games of the sheet; a line with another game is skipped.
        apps: The names of the apps that users own or the catalogue has; a line about another app is skipped.

    Raises:
        Refused: `configuration`, where overrides.csv is not a CSV in UTF-8 with commas; nothing is written.
        Retryable: `store_unavailable`, when others keep rewriting overrides.csv.
    """
    faults = {decision.line: _fault(decision, games, apps) for decision in sheet.decisions}
    skipped = [SkippedLine(line, why) for line, why in faults.items() if why]
    usable = {decision.appid: decision for decision in sheet.decisions if not faults[decision.line]}
    if usable:
        update = partial(update_overrides_csv, decisions=list(usable.values()))
        rewrite(store, OVERRIDES, update, store.file_max_bytes)
    decided = [_describe(decision, apps[appid], games) for appid, decision in usable.items()]
    return AppliedReview(decided, sorted([*sheet.skipped, *skipped]))


def _fault(decision: Decision, games: NamedGames, apps: Mapping[int, str | None]) -> str | None:
    """Return why a decision cannot be used: nobody knows its app or its game, or IGDB did not say."""
    igdb_id = decision.igdb_id
    if igdb_id in games.unanswered:
        return f"igdb_id: IGDB gave no answer about game {igdb_id}. Apply the file again"
    if igdb_id is not None and igdb_id not in games.names:
        return f"igdb_id: IGDB knows no game {igdb_id}. Take the number from the game's page on igdb.com"
    if decision.appid not in apps:
        return f"appid: neither a library nor the catalogue has app {decision.appid}"
    return None


def _describe(decision: Decision, app_name: str | None, games: NamedGames) -> str:
    """Return a decision as "app → game", both with their names and ids."""
    app = f"{app_name or 'App'} ({decision.appid})"
    if decision.igdb_id is None:
        return f"{app} → {'not imported' if decision.action == 'ignore' else 'a game, to be matched'}"
    return f"{app} → {games.names[decision.igdb_id]} (IGDB {decision.igdb_id})"


def parse_decisions(body: bytes) -> FilledSheet:
    """Return the decisions in a review sheet, in the order of its lines, and the lines that are skipped.

    Skipped are invalid lines, and those that decide otherwise about an app than a later line, which counts.

    Raises:
        Failed: `checkpoint_invalid`, if it is no CSV, or lacks a column.
    """
    header = parse_header(body)
    if missing := [name for name in OVERRIDES_HEADER if name not in header]:
        raise Failed(
            "checkpoint_invalid",
            f"The file lacks the {agree(len(missing), 'column')} {', '.join(missing)}. Give the one of review export, "
            "saved as CSV.",
        )
    decisions: list[Decision] = []
    skipped: list[SkippedLine] = []
    for record in parse_records(body):
        try:
            decision = _parse_decision(record)
        except ValueError as error:
            skipped.append(SkippedLine(record.line, describe_fault(error)))
            continue
        if decision:
            decisions.append(decision)
    last = {decision.appid: decision for decision in decisions}
    for decision in decisions:
        final = last[decision.appid]
        if decision.to_row() != final.to_row():
            why = f"line {final.line} decides otherwise about appid {final.appid}, and counts"
            skipped.append(SkippedLine(decision.line, why))
    return FilledSheet(sorted(last.values(), key=attrgetter("line")), sorted(skipped))


def _parse_decision(record: CsvRecord) -> Decision | None:
    """Return the decision in a record, None if it has none; raise ValueError if it is invalid."""
    if record.fault:
        raise ValueError(record.fault)
    cells = {name: record.cells.get(name, "").strip() for name in OVERRIDES_HEADER}
    action, igdb_id = cells["action"].casefold(), strip_decimals(cells["igdb_id"])
    if not action and not igdb_id:
        return None
    if not action:
        raise ValueError("it has an igdb_id and no action: write match into it, or clear the igdb_id")
    return Decision.model_validate(
        {
            "appid": strip_decimals(cells["appid"]),
            "action": action,
            "igdb_id": igdb_id,
            "note": " ".join(cells["note"].split()),
            "line": record.line,
        }
    )


def update_overrides_csv(body: bytes | None, decisions: Sequence[Decision]) -> bytes:
    """Return the bytes of overrides.csv with the decisions written in, each over its app's last line or at the end.

    Further lines about the app are removed; lines about other apps stay byte for byte. A decision without a note keeps
    the note that the line has.

    Raises:
        Refused: `configuration`, from `check_overrides_format`.
    """
    body = body or b""
    check_overrides_format(body)
    line_end = b"\r\n" if b"\r\n" in body else b"\n"
    mark = BOM_UTF8 if body.startswith(BOM_UTF8) else b""
    lines = body.removeprefix(mark).splitlines(keepends=True) or [_to_line(OVERRIDES_HEADER, line_end)]
    decided = {str(decision.appid): decision for decision in decisions}
    remaining = dict(decided)
    kept: list[bytes] = []
    for line in reversed(lines):
        appid, *_, note = cells = _to_cells(line)
        if appid in remaining:
            updated = _override_cells(remaining.pop(appid), note)
            kept.append(line if cells == updated else _to_line(updated, line_end))
        elif appid not in decided:
            kept.append(line)
    kept.reverse()
    added = [_to_line(_override_cells(decision), line_end) for decision in remaining.values()]
    if added and not kept[-1].endswith((b"\n", b"\r")):
        kept[-1] += line_end
    return mark + b"".join(kept + added)


def _override_cells(decision: Decision, former_note: str = "") -> list[str]:
    igdb_id = "" if decision.igdb_id is None else str(decision.igdb_id)
    return [str(decision.appid), decision.action, igdb_id, decision.note or former_note]


def _to_cells(line: bytes) -> list[str]:
    """Return the four cells of a line of overrides.csv: blank where it has fewer, all blank if it is not a CSV."""
    try:
        cells = next(csv.reader([line.decode(errors=_ENCODING_ERRORS)]), [])
    except csv.Error:
        cells = []
    return [cell.strip() for cell in [*cells, "", "", "", ""][: len(OVERRIDES_HEADER)]]


def _to_line(cells: Iterable[str], line_end: bytes) -> bytes:
    text = StringIO()
    csv.writer(text, lineterminator="").writerow(cells)
    return text.getvalue().encode(errors=_ENCODING_ERRORS) + line_end
