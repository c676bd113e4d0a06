"""What people decided in a review: out of the file that they filled in, and into the lines of overrides.csv."""

import csv
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from io import StringIO
from operator import attrgetter
from typing import NamedTuple

from pydantic import ValidationError

from pipeline.catalogue.look_up import OVERRIDES
from pipeline.errors import Failed, Retryable
from pipeline.frames.overrides import check_overrides_format
from pipeline.review.sheet import (
    TRIES,
)
from pipeline.storage.checkpoints import read_checkpoint
from pipeline.storage.csv import CsvRecord, parse_header, parse_records, strip_decimals
from pipeline.storage.keys import Checkpoint, parse_checkpoint_key
from pipeline.storage.store import Store
from schemas.catalogue import HEADER
from schemas.library import RawLibrary
from schemas.review import Decision

_BOM = b"\xef\xbb\xbf"

_ERRORS = "surrogateescape"
"""Bytes that are no UTF-8 go back as they came."""


class SkippedLine(NamedTuple):
    """A line that does not count, and why."""

    line: int
    why: str


def parse_decisions(body: bytes) -> tuple[list[Decision], list[SkippedLine]]:
    """The lines of an edited file that decide something, and those that cannot; of an app's lines the last counts."""
    made: dict[tuple[int, str], Decision] = {}
    standing: dict[int, list[Decision]] = defaultdict(list)
    faults: list[SkippedLine] = []
    for record in parse_records(body):
        try:
            decision = _decision(record)
        except ValueError as error:
            faults.append(SkippedLine(record.line, _why(error)))
            continue
        if decision:
            faults += _overruled(decision, standing[decision.appid])
            made[decision.appid, decision.checkpoint] = decision
    return sorted(made.values(), key=attrgetter("line")), sorted(faults)


def missing_columns(body: bytes) -> list[str]:
    """The columns that an edited file must have and does not: all of them, where it is no CSV."""
    header = parse_header(body)
    return [name for name in HEADER if name not in header]


def update_overrides_csv(body: bytes | None, decisions: Sequence[Decision]) -> bytes:
    """overrides.csv with these decisions: each in the place of its app's former line, or at the end.

    A blank note leaves the former one; a line that says the same already, and every other app's, stays as it is.

    Raises:
        Refused: `configuration`, as `require_form`.
    """
    check_overrides_format(body or b"")
    ending = b"\r\n" if body and b"\r\n" in body else b"\n"
    bom, text = (_BOM, body.removeprefix(_BOM)) if body and body.startswith(_BOM) else (b"", body or b"")
    lines = text.splitlines(keepends=True) or [_line(HEADER, ending)]
    made = {str(decision.appid): decision for decision in decisions}
    former = {appid: number for number, line in enumerate(lines) if (appid := _cells(line)[0]) in made}
    kept = [_replaced(number, line, made, former, ending) for number, line in enumerate(lines)]
    new = [_line(_overriding(made[appid]), ending) for appid in made if appid not in former]
    if new and not kept[-1].endswith((b"\n", b"\r")):
        kept[-1] += ending
    return bom + b"".join(kept + new)


def _decision(record: CsvRecord) -> Decision | None:
    """What a record decides; None for nothing. Raises ValueError."""
    if record.fault:
        raise ValueError(record.fault)
    cells = {name: record.cells.get(name, "").strip() for name in (*HEADER, "checkpoint")}
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
            "checkpoint": cells["checkpoint"],
        }
    )


def _overruled(decision: Decision, standing: list[Decision]) -> list[SkippedLine]:
    """The faults of the lines about an app that stood, if the decision is another; it stands now."""
    former = []
    if standing and standing[0].columns() != decision.columns():
        former = standing.copy()
        standing.clear()
    standing.append(decision)
    why = f"line {decision.line} decides otherwise about appid {decision.appid}, and counts"
    return [SkippedLine(other.line, why) for other in former]


def _why(error: ValueError) -> str:
    if not isinstance(error, ValidationError):
        return str(error)
    first = error.errors(include_url=False, include_input=False)[0]
    return ": ".join([*map(str, first["loc"]), first["msg"].removeprefix("Value error, ")])


def _replaced(
    number: int, line: bytes, made: Mapping[str, Decision], former: Mapping[str, int], ending: bytes
) -> bytes:
    """A line of overrides.csv: as it is, as decided now, or, where the app has another one further down, none."""
    cells = _cells(line)
    if cells[0] not in made:
        return line
    if former[cells[0]] != number:
        return b""
    decided = _overriding(made[cells[0]], cells[3])
    return line if cells == decided else _line(decided, ending)


def _overriding(decision: Decision, former_note: str = "") -> list[str]:
    igdb_id = "" if decision.igdb_id is None else str(decision.igdb_id)
    return [str(decision.appid), decision.action, igdb_id, decision.note or former_note]


def _cells(line: bytes) -> list[str]:
    """The four cells of a line, blank where there are fewer, and all of them where it is no CSV."""
    try:
        cells = next(csv.reader([line.decode(errors=_ERRORS)]), [])
    except csv.Error:
        cells = []
    return [cell.strip() for cell in [*cells, "", "", "", ""][: len(HEADER)]]


def _line(cells: Iterable[str], ending: bytes) -> bytes:
    text = StringIO()
    csv.writer(text, lineterminator="").writerow(cells)
    return text.getvalue().encode(errors=_ERRORS) + ending


@dataclass(frozen=True)
class AppliedReview:
    """What became of an edited file: decisions taken, lines skipped, and the raw CSVs of the runs to do again."""

    taken: int
    faults: Sequence[SkippedLine]
    raws: Sequence[Checkpoint]


def apply_review(store: Store, body: bytes, location: str | None = None, *, trust: bool = False) -> AppliedReview:
    """Take an edited file's decisions into overrides.csv; a line that cannot be used is skipped, and told.

    They are about the runs that the file names, or about the run of a raw or an enriched CSV alone. A raw CSV that was
    edited itself is read if it is to be trusted.

    Raises:
        Failed: `checkpoint_invalid`, `location_refused`. Nothing is written then.
        Refused: `configuration`, where overrides.csv is of another form. Nothing is written then.
        Retryable: `store_unavailable`, also when others write overrides.csv all the time.
    """
    if missing := missing_columns(body):
        raise Failed(
            "checkpoint_invalid",
            f"The file lacks the column {', '.join(missing)}. Give the one of review export, saved as CSV.",
        )
    made, faults = parse_decisions(body)
    if location is not None:
        key = _raw(store.key_of(location)).key
        made = [decision.model_copy(update={"checkpoint": key}) for decision in made]
    taken, strangers = _of_their_runs(store, made, trust=trust)
    _write_overrides(store, [decision for _, decision in taken])
    appids = {decision.appid for _, decision in taken}
    return AppliedReview(len(appids), sorted([*faults, *strangers]), list(dict.fromkeys(raw for raw, _ in taken)))


def _of_their_runs(
    store: Store, made: Iterable[Decision], *, trust: bool
) -> tuple[list[tuple[Checkpoint, Decision]], list[SkippedLine]]:
    """The decisions with the raw CSVs that hold their apps; those whose run has no such app are faults."""
    owned: dict[Checkpoint, set[int]] = {}
    taken: list[tuple[Checkpoint, Decision]] = []
    faults: list[SkippedLine] = []
    for decision in made:
        try:
            raw = _raw(decision.checkpoint)
        except Failed as error:
            faults.append(SkippedLine(decision.line, f"checkpoint: {error.message} Or say which CSV it is about."))
            continue
        if raw not in owned:
            owned[raw] = set(read_checkpoint(store, raw, RawLibrary, trust=trust).rows["appid"])
        if decision.appid in owned[raw]:
            taken.append((raw, decision))
        else:
            faults.append(SkippedLine(decision.line, f"appid: {raw.key} has no app {decision.appid}"))
    return taken, faults


def _raw(key: str) -> Checkpoint:
    """The raw CSV that a run began with, from the key of either of its CSVs; raises `location_refused`."""
    named = parse_checkpoint_key(key, "raw" if key.endswith("-raw.csv") else "enriched")
    return Checkpoint(named.user_id, named.stem, "raw")


def _write_overrides(store: Store, taken: Sequence[Decision]) -> None:
    """Merge decisions into overrides.csv as it is now; whoever was quicker keeps their lines."""
    for _ in range(TRIES):
        etag = store.list(OVERRIDES).get(OVERRIDES)
        body = store.read(OVERRIDES)
        lines = update_overrides_csv(body, taken)
        if not taken or lines == body or store.replace(OVERRIDES, lines, etag):
            return
    raise Retryable("store_unavailable", f"{OVERRIDES} is being rewritten by others all the time. Try again later.")
