"""Attempts of a backfill's event, command or files to reach what is another run's, another user's, or nobody's."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import polars as pl
import pytest

from handlers import backfill, igdb
from pipeline.backfill import outcomes as user_outcomes
from pipeline.backfill.plan import draft_plan, make_plan, shards_of
from pipeline.backfill.shards import ShardFiles
from pipeline.backfill.steps import enrich_shard
from pipeline.catalogue.files import CatalogueFiles
from pipeline.cli import cli
from pipeline.frames.raw_library import owned_games_as_text
from pipeline.storage.keys import PLAN, backfill_key
from pipeline.storage.store import DirectoryStore, Store
from schemas.backfill import ShardFile, ShardRecord
from schemas.events import ShardStep
from schemas.frames import set_aside
from schemas.library import RawLibrary
from tests.support.lambda_functions import Handler

ACCOUNT = "76561197960287930"
OURS, THEIRS = "user-1", "user-2"
THEIR_RUN, TAMPERED = "run-2", "tampered-"
HANDLERS: Sequence[Handler] = (backfill.handler, igdb.handler)
STEPS = ("plan", "fetch", "catalogue", "enrich", "load", "report")

RUN_IDS: Sequence[object] = (
    *("", ".", "..", "../run-2", "run-1/../run-2", "/run-1", "run/1", "run%2f1", "run-1\\..\\run-2", "seen.parquet"),
    *("run-1\0", "run-1\n", "run-1 ", " run-1", "*", "~", "$RUN", "run-1;rm", "r" * 81, "run-1\u202e"),
    "r\N{CYRILLIC SMALL LETTER U}n-1",
    "\N{FULLWIDTH LATIN SMALL LETTER R}un-1",
    "run\N{NON-BREAKING HYPHEN}1",
    *(None, 1, True, ["run-1"], {"run-1": 1}),
)
NO_SHARDS: Sequence[object] = (
    *(-1, -(10**30), 0.5, 1.0, 1e300, "0", "-1", "1e3", "../0", "00000-users", "", True, False, None, [0], {"0": 0}),
)
NO_SIZES: Sequence[object] = (0, -1, 1_001, 10**30, 1.0, "200", True, [200])
NO_STEPS: Sequence[object] = ("", "dance", "LOAD", "load\0", 'load"; where id = 1;', "../load", 1, None, ["load"], {})
FAR_SHARDS = (1, 10**9, 10**30)
LISTS = (
    *("../users.csv", "imports/../../users.csv", "/etc/passwd", "/users.csv", "a\0b", "..\\users.csv", "a\nb.csv"),
    "\ud800.csv",
)
QUERIES: Sequence[object] = (
    "fields *; limit 500;",
    b"fields *;",
    ["fields *;"],
    {"query": "fields *; where id = 1;"},
    {"endpoint": "games", "body": "fields *; limit 500;"},
    {"httpMethod": "POST", "path": "/v4/games", "body": '{"step": "report", "run_id": "run-2"}'},
    {"step": "catalogue", "run_id": "run-1; fields *"},
    {"step": "catalogue", "query": "fields *;"},
    {"step": 'query games "x" { fields *; };', "run_id": "run-1"},
    {"user_id": OURS, "s3_location": "fields *; where id = 1;"},
    {"user_id": "* ; fields *", "s3_location": "s3://bucket/of/imports/user-1/20261123T031749Z-raw.csv"},
)

FILES = ("imports/user-2/20261123T031749Z-enriched.csv", "../outside/outside", "/etc/passwd", "a\0b")

Tried = tuple[str, Callable[[], object]]
Tamper = Callable[[ShardFiles], None]


def on_backfills(folder: Path, bucket: str, elsewhere: Sequence[str]) -> Iterator[Tried]:
    """All attempts: those by events at a bucket, by commands and by files that were tampered with in a directory."""
    for event in _events(bucket, elsewhere):
        for handler in HANDLERS:
            yield f"{handler.__module__}: {str(event)[:120]}", partial(handler, event, None)
    for query in QUERIES:
        yield f"handlers.igdb: {query!r}", partial(igdb.handler, query, None)
    for line in _commands(elsewhere):
        yield _command(folder, *line)
    yield from _by_files(folder)


def _events(bucket: str, elsewhere: Sequence[str]) -> Iterator[dict[str, object]]:
    for number, run_id in enumerate(RUN_IDS):
        for step in ("plan", STEPS[number % len(STEPS)]):
            yield {"step": step, "run_id": run_id, "shard": 0, "users": f"{bucket}users.csv"}
    for shard in NO_SHARDS:
        yield {"step": "load", "run_id": "run-1", "shard": shard}
    for size in NO_SIZES:
        yield {"step": "plan", "run_id": "run-1", "users": f"{bucket}users.csv", "shard_size": size}
    for no_step in NO_STEPS:
        yield {"step": no_step, "run_id": "run-1", "shard": 0}
    for users in (*elsewhere, *(bucket + place for place in LISTS), 1, True, ["users.csv"], {"Bucket": "bucket"}):
        yield {"step": "plan", "run_id": "run-1", "users": users}


def _commands(elsewhere: Sequence[str]) -> Iterator[list[str]]:
    """What a command line can hold; of `backfill` an empty word is a mistake in typing."""
    run_ids = [run_id for run_id in RUN_IDS if isinstance(run_id, str) and "\0" not in run_id]
    yield from (["replay", run_id] for run_id in run_ids)
    yield from (["backfill", "--resume", run_id] for run_id in run_ids if run_id)
    yield from (["backfill", users] for users in elsewhere if users)


def _command(folder: Path, *line: str) -> Tried:
    whole = [*line, "--store-url", str(folder / "store")]
    return f"command: {str(line)[:80]}", partial(cli, whole, standalone_mode=False)


def _by_files(folder: Path) -> Iterator[Tried]:
    store = DirectoryStore(folder / "store")
    theirs = _files(store, THEIR_RUN, THEIRS)
    _fetch(theirs, THEIRS, THEIRS)
    record = enrich_shard(theirs, CatalogueFiles(store))
    for shard in FAR_SHARDS:
        yield f"shard {shard}", partial(_invoke, folder, {"step": "load", "run_id": THEIR_RUN, "shard": shard})
    for number, (name, step, tamper) in enumerate(_tamperings(theirs, record)):
        run_id = f"{TAMPERED}{number}"
        if step == "replay":
            attempt = _command(folder, "replay", run_id)[1]
        else:
            attempt = partial(_invoke, folder, {"step": step, "run_id": run_id, "shard": 0})
        yield f"{name}: {step}", partial(_come_upon, store, run_id, tamper, attempt)


def _tamperings(theirs: ShardFiles, record: ShardRecord) -> Iterator[tuple[str, str, Tamper]]:
    """What may stand in the files of a run that is not its own, and the step that comes upon it."""
    fetched = theirs.require("fetch")
    yield "rows of another in the raw CSV", "enrich", lambda ours: _fetch(ours, OURS, THEIRS)
    yield "rows of another set aside", "replay", lambda ours: _fetch(ours, OURS, OURS, rejects=THEIRS)
    yield "another in the raw manifest", "enrich", lambda ours: _fetch(ours, THEIRS, OURS)
    yield "rows of another in the enriched CSV", "load", partial(_enrich, rows=theirs.text(_file(record)))
    yield "another in the enriched manifest", "load", partial(_enrich, outcomes=theirs.outcomes(record))
    yield "a list of another", "enrich", partial(_list, users=theirs.store.read(theirs.shard.users_key) or b"")
    yield "a raw manifest of another", "enrich", partial(_write, step="fetch", record=fetched)
    yield "an enriched manifest of another", "load", partial(_write, step="enrich", record=record)
    for key in (_file(record).key, *FILES):
        file = _file(record).model_copy(update={"key": key})
        yield f"{key!r} in the raw manifest", "enrich", partial(_name, step="fetch", file=file)
        yield f"{key!r} in the enriched manifest", "load", partial(_name, step="enrich", file=file)
    plan = theirs.store.read(backfill_key(THEIR_RUN, PLAN)) or b""
    for step in (*STEPS, "replay"):
        yield "a plan of another", step, partial(_plan, plan=plan)
        yield "a plan of no run", step, partial(_plan, plan=plan.replace(b"run-2", b"../run-2"))


def _come_upon(store: Store, run_id: str, tamper: Tamper, attempt: Callable[[], object]) -> object:
    tamper(_files(store, run_id, OURS))
    return attempt()


def _invoke(folder: Path, event: dict[str, object]) -> object:
    """An event for a run in the directory; whom it lets into the database, nobody answers."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("DATABASE_URL_SECRET_ARN")
        patch.setenv("DATABASE_URL", "postgresql://127.0.0.1:9/savepoint?connect_timeout=1")
        patch.setenv("STORE_URL", str(folder / "store"))
        return backfill.handler(event, None)


def _files(store: Store, run_id: str, user_id: str) -> ShardFiles:
    """The one shard of a new run."""
    users = f"user_id,steam_id64\n{user_id},{ACCOUNT}\n".encode()
    return shards_of(store, make_plan(store, "users.csv", draft_plan(store, users, run_id=run_id)))[0]


def _fetch(files: ShardFiles, listed: str, owner: str, *, rejects: str = "") -> None:
    """A fetch whose manifest has one user, and whose CSV has the rows of one."""
    rows, none = set_aside(owned_games_as_text([{"appid": 440, "playtime_forever": 1}], owner, ACCOUNT), RawLibrary)
    users = pl.DataFrame({"user_id": [listed], "steam_id64": [ACCOUNT], "outcome": ["done"], "error": [None]})
    rejected = (
        owned_games_as_text([{"appid": 620}], rejects, ACCOUNT).with_columns(rejected_check=pl.lit("name"))
        if rejects
        else none
    )
    files.commit(files.begin("fetch"), user_outcomes.fetched(users, rows, none), rows=rows, rejected=rejected)


def _enrich(files: ShardFiles, rows: pl.DataFrame | None = None, outcomes: pl.DataFrame | None = None) -> None:
    """An enrichment with these rows or these users instead of its own."""
    _fetch(files, OURS, OURS)
    own = enrich_shard(files, CatalogueFiles(files.store))
    files.commit(
        files.begin("enrich"),
        files.outcomes(own) if outcomes is None else outcomes,
        rows=files.text(_file(own)) if rows is None else rows,
    )


def _list(files: ShardFiles, users: bytes) -> None:
    _fetch(files, OURS, OURS)
    files.store.write(files.shard.users_key, users)


def _plan(files: ShardFiles, plan: bytes) -> None:
    files.store.write(backfill_key(files.shard.run_id, PLAN), plan)


def _name(files: ShardFiles, step: ShardStep, file: ShardFile) -> None:
    """Have the manifest of a step name a file."""
    _enrich(files)
    _write(files, step, files.require(step).model_copy(update={"file": file}))


def _write(files: ShardFiles, step: ShardStep, record: ShardRecord) -> None:
    files.store.write(files.shard.manifest_key(step), record.model_dump_json().encode())


def _file(record: ShardRecord) -> ShardFile:
    assert record.file
    return record.file
