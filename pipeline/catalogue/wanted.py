"""The apps that joins missed in the catalogue: each join writes them into a file, and each look-up answers all files.

A file is written once and never changed, and a look-up deletes it when the catalogue has all of its apps. So a file
that is written during a look-up stays for the next one, and so do the files of a look-up that is killed.
"""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from hashlib import sha256
from typing import NamedTuple

import polars as pl
import structlog
from pandera.typing.polars import DataFrame

from pipeline.catalogue.look_up import CatalogueLookup, Progress, no_progress, read_overrides
from pipeline.errors import Failed, Retryable
from pipeline.frames.catalogue import apps_without_store_type, not_looked_up, postpone_store_types
from pipeline.frames.raw_library import library_of_nobody
from pipeline.storage.csv import read_rows, to_csv
from pipeline.storage.keys import WANTED, wanted_key
from pipeline.storage.store import Store
from schemas.catalogue import Overrides, WantedApps
from schemas.frames import conform
from schemas.library import RawLibrary

APPS_PER_PART = 5_000
"""How many apps are looked up before the answers are written: those who wait for them need not wait for the rest."""

OPEN_FILES = 8
"""How many files are read or deleted at a time: half of the connections that a client of S3 keeps open."""

log = structlog.get_logger()


def want_apps(store: Store, run_id: str, appids: pl.Series) -> None:
    """Write the apps that a run's join missed for the next look-up; none for an empty series.

    A file that the run has written before is kept: if it lacks some of the apps, all are written into a second one.
    """
    if appids.is_empty():
        return
    body = to_csv(conform(appids.to_frame("appid"), WantedApps))
    key = wanted_key(run_id)
    if store.replace(key, body, None):
        return
    there = store.read(key)
    if there is None or not appids.is_in(_parse(key, there).implode()).all():
        store.write(wanted_key(run_id, f"-{sha256(body).hexdigest()[:16]}"), body)


class Answered(NamedTuple):
    """The result of a look-up of all wanted apps: numbers of files, of distinct apps, and of apps without an answer."""

    files: int
    apps: int
    unanswered: int


async def look_up_wanted(store: Store, lookup: CatalogueLookup, progress: Progress = no_progress) -> Answered:
    """Look up the apps of all wanted files, add the answers to the catalogue, and delete the files that it answers.

    A corrupt file is logged and deleted: a later join wants its apps again.

    Raises:
        Retryable: `igdb_unavailable`, if IGDB answered none of the look-ups; all files stay.
    """
    read, overrides = _read_files(store, store.list(WANTED)), read_overrides(store)
    wanted = {key: appids for key, appids in read.items() if appids is not None}
    _delete_files(store, read.keys() - wanted.keys())
    apps = pl.concat([pl.Series("appid", [], pl.Int32), *wanted.values()]).unique().sort()
    for number, part in enumerate(apps.to_frame().iter_slices(APPS_PER_PART)):
        try:
            await _look_up_part(lookup, library_of_nobody(part), overrides, progress)
        except Retryable as error:
            if number == 0:
                raise
            log.warning("wanted apps left", error=error.message)
            break
    unanswered = _unanswered(lookup, apps, overrides)
    answered = [key for key, appids in wanted.items() if not appids.is_in(unanswered.implode()).any()]
    _delete_files(store, answered)
    return Answered(len(read), apps.len(), unanswered.len())


async def _look_up_part(
    lookup: CatalogueLookup, library: DataFrame[RawLibrary], overrides: DataFrame[Overrides], progress: Progress
) -> None:
    """Look up some apps; those about which only Steam's store does not answer are decided without it for a while."""
    _, known = await lookup.look_up(library, overrides, progress)
    now = datetime.now(UTC)
    without_type = apps_without_store_type(library, known, now, lookup.lifetimes)
    lookup.catalogue.remember(postpone_store_types(without_type, known, now, lookup.lifetimes))


def _unanswered(lookup: CatalogueLookup, appids: pl.Series, overrides: DataFrame[Overrides]) -> pl.Series:
    library = library_of_nobody(appids.to_frame("appid"))
    known = lookup.catalogue.read_about(library)
    return not_looked_up(library, known, overrides, datetime.now(UTC), lookup.lifetimes)


def _read_files(store: Store, keys: Iterable[str]) -> dict[str, pl.Series | None]:
    """Return the apps of each file by its key; None for a file that is gone or corrupt, which is logged."""

    def read(key: str) -> pl.Series | None:
        body = store.read(key)
        try:
            return None if body is None else _parse(key, body)
        except Failed as error:
            log.warning("wanted file is corrupt, and is deleted", key=key, fault=error.message)
            return None

    with ThreadPoolExecutor(OPEN_FILES) as readers:
        return dict(zip(keys, readers.map(read, keys), strict=True))


def _parse(key: str, body: bytes) -> pl.Series:
    return read_rows(body, key, WantedApps)["appid"]


def _delete_files(store: Store, keys: Iterable[str]) -> None:
    with ThreadPoolExecutor(OPEN_FILES) as deleters:
        list(deleters.map(store.delete, keys))
