"""Erase a user from the store: imports, lists, what was last loaded, ended backfills, and names of wanted apps' files.

It may be killed at any point and run again: what names a user last (of a shard the list of its users, of a backfill its
report) is rewritten last. The database is not touched.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from hashlib import sha256

import polars as pl
import structlog

from pipeline.backfill.list import USERS_REJECTED
from pipeline.backfill.plan import find_plan, require_plan
from pipeline.backfill.report import OUTCOMES_CSV, REJECTED_CSV, drop_from_last_loaded, read_report, write_report
from pipeline.backfill.shards import ShardFiles, map_concurrently, to_json, write_json
from pipeline.errors import Failed, Refused
from pipeline.storage.csv import BYTE_ORDER_MARK, drop_records, parse_csv, to_csv, unescape_formulas
from pipeline.storage.keys import (
    BACKFILLS,
    LAST_LOADED,
    LAST_LOADED_BEFORE,
    LISTS,
    PLAN,
    WANTED,
    Shard,
    backfill_key,
    parse_shard_key,
    user_folder,
    wanted_key,
)
from pipeline.storage.store import Store, rewrite
from schemas.backfill import ShardCsv, ShardManifest
from schemas.events import SHARD_STEPS, ForgetResponse

ERASED = "(erased)"
log = structlog.get_logger()


@dataclass(frozen=True)
class Traces:
    """The keys of a store's files that hold or name something of a user, and the run ids of backfills with the user.

    The backfills in `running` have no report yet; those in `backfills` have ended.
    """

    imports: list[str]
    lists: list[str]
    backfills: list[str]
    running: list[str]
    wanted: list[str]
    is_last_loaded: bool


def forget_user(store: Store, user_id: str, *, dry_run: bool = False) -> ForgetResponse:
    """Erase a user from a store, and return what was erased; a dry run erases nothing.

    Raises:
        Refused: `bad_event`, naming the backfills with the user that have not ended; nothing was erased then.
        Failed: `checkpoint_invalid`, naming the file of a backfill, or that of what was last loaded, that is corrupt.
    """
    traces = find_traces(store, user_id)
    if traces.running:
        raise Refused(
            "bad_event",
            f"User {user_id} is in the backfill {', '.join(traces.running)}, which has not ended, and nothing was "
            "erased. Wait for its report, or end it with `steam-import backfill --resume RUN_ID`, and run this again.",
        )
    if not dry_run:
        for folder in _folders_with_drafts(traces):
            store.delete_drafts(folder)
        for key in traces.lists:
            rewrite(store, key, partial(_drop_from_list, user_id=user_id))
        for run_id in traces.backfills:
            _forget_in_backfill(store, run_id, user_id)
        for key in traces.wanted:
            _rename(store, key)
        for key in (LAST_LOADED, LAST_LOADED_BEFORE):
            rewrite(store, key, partial(drop_from_last_loaded, key=key, user_id=user_id))
        store.delete_folder(user_folder(user_id))
        log.info("forgotten", user_id=user_id, imports=len(traces.imports), backfills=len(traces.backfills))
    return ForgetResponse(
        success=True,
        user_id=user_id,
        dry_run=dry_run,
        files=len(traces.imports),
        lists=[store.locate(key) for key in traces.lists],
        backfills=traces.backfills,
        last_loaded=traces.is_last_loaded,
    )


def find_traces(store: Store, user_id: str) -> Traces:
    """Return the keys of a store's files that hold or name a user, and the run ids of backfills with the user."""
    in_backfills = list(store.list(BACKFILLS))
    runs = dict.fromkeys(key.split("/")[1] for key in in_backfills if key.count("/") > 1)
    shards = [shard for key in in_backfills if (shard := parse_shard_key(key))]
    have_user = map_concurrently(lambda shard: _is_in_csv(store, shard.users_key, user_id), shards)
    named = {shard.run_id for shard, has_user in zip(shards, have_user, strict=True) if has_user}
    ended, running = list[str](), list[str]()
    for run_id in runs:
        plan, report = find_plan(store, run_id), read_report(store, run_id)
        is_changed = bool(plan and report and report.users["total"] != plan.users + plan.rejected)
        csvs = [backfill_key(run_id, name) for name in (USERS_REJECTED, OUTCOMES_CSV, REJECTED_CSV)]
        if run_id in named or is_changed or any(_is_in_csv(store, key, user_id) for key in csvs):
            (ended if plan and report else running).append(run_id)
    imports = list(store.list(user_folder(user_id)))
    is_in_list = partial(_drop_from_list, user_id=user_id)
    lists = [key for key in _lists(store, in_backfills, runs) if _is_changed(store, key, is_in_list)]
    wanted = [key for key in store.list(WANTED) if user_id in key.removeprefix(WANTED)]
    last_loaded = [
        key
        for key in (LAST_LOADED, LAST_LOADED_BEFORE)
        if _is_changed(store, key, partial(drop_from_last_loaded, key=key, user_id=user_id))
    ]
    return Traces(imports, lists, ended, running, wanted, bool(last_loaded))


def _folders_with_drafts(traces: Traces) -> list[str]:
    """Return the folders, besides that of the imports, where killed processes may have left drafts with the user."""
    of_backfills = [backfill_key(run_id, folder) for run_id in traces.backfills for folder in ("", "shards/")]
    of_lists = [f"{key.rpartition('/')[0]}/".lstrip("/") for key in traces.lists]
    of_last_loaded = [f"{key.rpartition('/')[0]}/" for key in (LAST_LOADED, LAST_LOADED_BEFORE)]
    return list(dict.fromkeys([LISTS, WANTED, *of_lists, *of_backfills, *of_last_loaded]))


def _is_in_csv(store: Store, key: str, user_id: str) -> bool:
    return _without_user(store.read(key) or b"", key, user_id) is not None


def _lists(store: Store, in_backfills: Iterable[str], runs: Iterable[str]) -> list[str]:
    """Return the keys of all lists of users: under `lists/`, where they were before, and where backfills read them."""
    keys = [*store.list(LISTS), *(key for key in in_backfills if key.count("/") == 1 and key.endswith(".csv"))]
    for run_id in runs:
        if plan := find_plan(store, run_id):
            try:
                keys.append(store.key_of(plan.source))
            except Failed:
                continue  # a file of an operator's machine
    return list(dict.fromkeys(keys))


def _drop_from_list(body: bytes | None, user_id: str) -> bytes | None:
    return body and drop_records(body, "user_id", user_id)


def _is_changed(store: Store, key: str, change: Callable[[bytes | None], bytes | None]) -> bool:
    body = store.read(key)
    return change(body) != body


def _forget_in_backfill(store: Store, run_id: str, user_id: str) -> None:
    plan = require_plan(store, run_id)
    in_shards = store.list(backfill_key(run_id, "shards/"))
    shards = [ShardFiles(store, shard) for key in in_shards if (shard := parse_shard_key(key))]
    users = sum(map_concurrently(partial(_forget_in_shard, user_id=user_id), shards))
    rejected_key = backfill_key(run_id, USERS_REJECTED)
    rejected = store.read(rejected_key) or b""
    if (left := _without_user(rejected, rejected_key, user_id)) is not None:
        store.write(rejected_key, left)
        rejected = left
    lines = parse_csv(rejected, rejected_key).height if rejected else 0
    changed = plan.model_copy(update={"users": users, "rejected": lines})
    write_json(store, backfill_key(run_id, PLAN), changed)
    # What Step Functions wrote of the shards' results was for the report: errors in it may name the user in any form.
    store.delete_folder(backfill_key(run_id, "map/"))
    write_report(store, changed)


def _forget_in_shard(files: ShardFiles, user_id: str) -> int:
    """Erase a user from the files of a shard, and return how many users it still has.

    New CSVs come first, then the manifests, which name them; the old CSVs, and last the users, by whom a shard whose
    rewriting was interrupted is found again.
    """
    store, shard = files.store, files.shard
    body = store.read(shard.users_key) or b""
    left = _without_user(body, shard.users_key, user_id)
    if left is None:
        return files.users().height
    steam_ids = files.users().filter(pl.col("user_id") == user_id)["steam_id"].to_list()
    csvs = [key for key in store.list(shard.prefix) if key.endswith(".csv") and key != shard.users_key]
    files_of = {key: store.read(key) or b"" for key in csvs}
    rewritten = {key: new for key, old in files_of.items() if (new := _without_user(old, key, user_id)) is not None}
    digests = {sha256(files_of[key]).hexdigest(): sha256(new).hexdigest() for key, new in rewritten.items()}
    digests[sha256(body).hexdigest()] = sha256(left).hexdigest()
    for step in SHARD_STEPS:
        if manifest := files.find_manifest(step):
            steam_ids += [user["steam_id64"] for user in manifest.users if user["user_id"] == user_id]
            changed = _forget_in_manifest(store, shard, manifest, rewritten, digests, user_id)
            store.write(shard.manifest_key(step), to_json(changed))
    for key in rewritten:
        store.delete(key)
    if failure := files.find_failure():
        error = _erased(failure.error, [user_id, *filter(None, steam_ids)])
        write_json(store, shard.failure_key, failure.model_copy(update={"error": error}))
    store.write(shard.users_key, left)
    return files.users().height


def _forget_in_manifest(
    store: Store,
    shard: Shard,
    manifest: ShardManifest,
    rewritten: Mapping[str, bytes],
    digests: Mapping[str, str],
    user_id: str,
) -> ShardManifest:
    """Return the manifest of a step without a user, after its CSVs were written again."""

    def write_again(file: ShardCsv | None, *, is_rejected: bool) -> ShardCsv | None:
        if file is None or file.key not in rewritten:
            return file
        body = rewritten[file.key]
        digest, rows = sha256(body).hexdigest(), parse_csv(body, file.key).height
        if is_rejected and not rows:
            return None
        key = shard.csv_key(manifest.step, digest, is_rejected=is_rejected)
        store.write(key, body)
        return ShardCsv(key=key, rows=rows, bytes=len(body), sha256=digest)

    return manifest.model_copy(
        update={
            "input": digests.get(manifest.input, manifest.input),
            "file": write_again(manifest.file, is_rejected=False),
            "rejected": write_again(manifest.rejected, is_rejected=True),
            "users": [user for user in manifest.users if user["user_id"] != user_id],
        }
    )


def _without_user(body: bytes, key: str, user_id: str) -> bytes | None:
    """Return a CSV of this program without a user's rows; None if it has none."""
    if not body:
        return None
    rows = parse_csv(body, key)
    is_kept = unescape_formulas(rows.select("user_id"))["user_id"].ne_missing(user_id)
    if is_kept.all():
        return None
    mark = BYTE_ORDER_MARK.encode() if body.startswith(BYTE_ORDER_MARK.encode()) else b""
    return mark + to_csv(rows.filter(is_kept))


def _rename(store: Store, key: str) -> None:
    """Name a file of wanted apps after its bytes instead of its run: its apps stay wanted."""
    body = store.read(key)
    if body is not None and key != (named_by_bytes := wanted_key(sha256(body).hexdigest())):
        store.write(named_by_bytes, body)
        store.delete(key)


def _erased(text: str, names: Iterable[str]) -> str:
    """Return a text with the ids of a user replaced."""
    for name in names:
        text = re.sub(rf"(?<![\w-]){re.escape(name)}(?![\w-])", ERASED, text)
    return text
