"""The catalogue's files in the store: one large file, and small ones beside it that are never changed.

Each look-up adds a small file under `catalogue/new/`. Readers take all files together; of each app the latest row
counts. Only `compact` rewrites the large file, and deletes the small ones after that: if it is killed in between, some
rows are there twice, and merge to one. It replaces the large file only if that is still the one it read, so anybody may
compact at any time, and whoever adds the 100th small file does.

A join decodes only the rows about its library's apps. The name of a small file lists its apps, if they are few, and a
join does not open the files that list none of its own; of the others it decodes the column of appids first. A process
that joins again, such as a warm Lambda function, reads all rows and keeps them: decoding the whole large file takes
little longer than finding some rows in it.
"""

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple, TypeVar
from uuid import uuid4

import polars as pl
import structlog
from pandera.typing.polars import DataFrame

from pipeline.errors import PipelineError, Retryable
from pipeline.frames.catalogue import merge_catalogues, merge_look_ups
from pipeline.storage.store import Store
from pipeline.storage.versioned import CorruptFile, read_current_parquets, read_parquet, to_parquet
from schemas.catalogue import Catalogue, CatalogueLookUps
from schemas.frames import conform, dtypes, empty_frame

ROOT = "catalogue/"
APPS = "catalogue/apps.parquet"
NEW = "catalogue/new/"
QUARANTINE = "catalogue/quarantine/"
TRIES = 10

MAX_SMALL_FILES = 100
"""The number of small files at which the writer of the last one compacts; reading as many takes under a second."""

THREADS = 16
"""The number of files that are read or deleted at a time; boto keeps a connection open for each."""

MAX_NAMED_APPS = 47
"""The most apps that the name of a small file lists, in three bytes each: a file's name has up to 255 characters."""

_NAMED_FILE = re.compile(rf"{NEW}[0-9a-f]{{32}}\.((?:[A-Za-z0-9_-]{{4}})+)\.parquet")

T = TypeVar("T")

REMEDY = (
    "Use the version of the program that wrote it, or delete it: then Steam's store and IGDB are asked about its apps "
    "again."
)
log = structlog.get_logger()


@dataclass(frozen=True)
class Compaction:
    """The result of a compaction: numbers of rows in the large file, files merged, and files in quarantine."""

    apps: int
    merged: int
    quarantined: int


@dataclass
class Memory:
    """A cache of a catalogue's rows, and of the ETags of the files that they were read from, by the files' keys.

    `has_joined` is true if the process has joined a library with the catalogue: the next join fills the cache.
    """

    etags: dict[str, str] = field(default_factory=dict)
    known: DataFrame[Catalogue] = field(default_factory=partial(empty_frame, Catalogue), repr=False)
    has_joined: bool = False


class KnownLookUps(NamedTuple):
    """The look-ups of all apps in a catalogue, one row per app, and the number and the size in bytes of its files."""

    rows: DataFrame[CatalogueLookUps]
    files: int
    size: int


class CatalogueFiles:
    """The catalogue files of one store; files whose ETags are those in the cache are not read again.

    Raises:
        Failed: `checkpoint_invalid`, if a file is of a version that this program does not read.
        Retryable: `store_unavailable`, also if files vanish faster than they can be read.
    """

    def __init__(self, store: Store, memory: Memory | None = None) -> None:
        self._store = store
        self._memory = memory or Memory()

    def read(self) -> DataFrame[Catalogue]:
        """Return all rows of the catalogue; if no file changed since the last call, none is read."""
        return self._until_steady(self._read_changed)

    def read_about(self, apps: pl.DataFrame) -> DataFrame[Catalogue]:
        """Return the rows about the apps of a library, or of any frame with an `appid`.

        The first call of a process decodes no other rows; later ones take them from the cache, as `read` does.
        """
        if self._memory.has_joined or self._memory.etags:
            return conform(self.read().join(apps, on="appid", how="semi"), Catalogue)
        self._memory.has_joined = True
        appids = apps["appid"].unique()
        wanted = frozenset(appids)

        def read(etags: Mapping[str, str]) -> DataFrame[Catalogue] | None:
            files = self._read_files((key for key in etags if _may_hold(key, wanted)), wanted=appids)
            return merge_catalogues([conform(rows, Catalogue) for rows in files.rows]) if files else None

        return self._until_steady(read)

    def read_look_ups(self) -> KnownLookUps:
        """Return what was asked about all apps, without the games, and the number and the bytes of the files."""

        def read(etags: Mapping[str, str]) -> KnownLookUps | None:
            files = self._read_files(etags, columns=list(dtypes(CatalogueLookUps)))
            if files is None:
                return None
            rows = merge_look_ups([conform(rows, CatalogueLookUps) for rows in files.rows])
            return KnownLookUps(rows, len(etags), files.size)

        return self._until_steady(read)

    def _until_steady(self, read: Callable[[dict[str, str]], T | None]) -> T:
        """Return what `read` makes of the files with these ETags, after it was called again for None."""
        for _ in range(TRIES):
            found = read(self._list())
            if found is not None:
                return found
        raise Retryable("store_unavailable", f"{ROOT} changes faster than it can be read. Try again later.")

    def _read_changed(self, etags: dict[str, str]) -> DataFrame[Catalogue] | None:
        memory = self._memory
        is_grown = etags.get(APPS) == memory.etags.get(APPS) and memory.etags.keys() <= etags.keys()
        unread = [key for key, etag in etags.items() if not is_grown or memory.etags.get(key) != etag]
        files = self._read_files(unread)
        if files is None:
            return None
        if unread or not is_grown:
            rows = [conform(rows, Catalogue) for rows in files.rows]
            memory.known = merge_catalogues([memory.known, *rows] if is_grown else rows)
        memory.etags = etags
        return memory.known

    def remember(self, rows: DataFrame[Catalogue]) -> None:
        """Write rows into the catalogue, as a small file of their own, and compact it if there are many of these.

        Raises:
            SchemaErrors: The rows do not conform.
        """
        if rows.height:
            valid = Catalogue.validate(rows, lazy=True)
            self._store.write(new_small_key(valid["appid"]), to_parquet(valid, "catalogue"))
            if len(self._list_small()) >= MAX_SMALL_FILES:
                self._compact_if_possible()

    def _compact_if_possible(self) -> None:
        try:
            self.compact()
        except PipelineError as error:  # the rows are written, and whoever writes next tries again
            log.warning("catalogue is not compacted", error_code=error.code, error=error.message)

    def compact(self) -> Compaction:
        """Merge all files into the large one, and quarantine corrupt ones; return how many rows and files these are."""
        for _ in range(TRIES):
            etags = self._list()
            files = self._read_files(etags)
            if files is None:
                continue
            for key, (body, _) in files.corrupt.items():
                self._store.write(QUARANTINE + key.removeprefix(ROOT).replace("/", "-"), body)
            apps = merge_catalogues([conform(rows, Catalogue) for rows in files.rows])
            if self._store.replace(APPS, to_parquet(apps, "catalogue"), etags.get(APPS)):
                small = etags.keys() - {APPS}
                with ThreadPoolExecutor(THREADS) as threads:
                    for _ in threads.map(self._store.delete, small):
                        pass
                return Compaction(apps.height, len(small - files.corrupt.keys()), len(files.corrupt))
        raise Retryable("store_unavailable", f"{APPS} is being rewritten by others all the time. Try again later.")

    def _list(self) -> dict[str, str]:
        """Return the ETag of each file by key, the large file first: of rows of one time, those of a small file count.

        The large file is listed last: if a small file was merged after it was listed, the large one has another ETag.
        """
        small = self._list_small()
        large = self._store.list(APPS)
        return {APPS: large[APPS], **small} if APPS in large else small

    def _list_small(self) -> dict[str, str]:
        return {key: etag for key, etag in self._store.list(NEW).items() if key.endswith(".parquet")}

    def _read_files(
        self, keys: Iterable[str], columns: Sequence[str] | None = None, wanted: pl.Series | None = None
    ) -> "_Files | None":
        """Return the rows of files in their order, and the corrupt files; None if one was deleted meanwhile.

        Each thread reads and decodes the large file, or a part of the small ones.
        """
        keys = list(keys)
        large, small = ([key for key in keys if (key == APPS) == is_large] for is_large in (True, False))
        length = -(-len(small) // (THREADS - 1)) or 1
        parts = [large, *(small[start : start + length] for start in range(0, len(small), length))]
        read = partial(self._read_part, columns=columns, wanted=wanted)
        with ThreadPoolExecutor(THREADS) as threads:
            found = list(threads.map(read, parts))
        complete = [part for part in found if part is not None]
        if len(complete) < len(found):
            return None
        files = _together(complete)
        for key, (_, fault) in files.corrupt.items():
            log.warning("catalogue file is corrupt", key=key, fault=fault)
        return files

    def _read_part(
        self, keys: Sequence[str], columns: Sequence[str] | None, wanted: pl.Series | None
    ) -> "_Files | None":
        bodies = [(key, body) for key in keys if (body := self._store.read(key)) is not None]
        if len(bodies) < len(keys):
            return None
        decode = partial(read_current_parquets, kind="catalogue", model=Catalogue, columns=columns, wanted=wanted)
        return _decode(bodies, decode)


def new_small_key(appids: pl.Series) -> str:
    """Return a new key for a small file, with its appids in it if they are few and three bytes hold each."""
    ids, listed = appids.to_list(), ""
    if len(ids) <= MAX_NAMED_APPS and max(ids) < 1 << 24:
        listed = "." + urlsafe_b64encode(b"".join(appid.to_bytes(3) for appid in ids)).decode()
    return f"{NEW}{uuid4().hex}{listed}.parquet"


def _may_hold(key: str, wanted: frozenset[int]) -> bool:
    """Return False if the name of a file lists apps, and none of them is wanted."""
    found = _NAMED_FILE.fullmatch(key)
    if found is None:
        return True
    listed = urlsafe_b64decode(found[1])
    return any(int.from_bytes(listed[start : start + 3]) in wanted for start in range(0, len(listed), 3))


class _Corrupt(NamedTuple):
    """The bytes of a file that cannot be read, and the reason."""

    body: bytes
    fault: str


class _Files(NamedTuple):
    """The chosen columns and rows of files, the bytes of all of them together, and the corrupt ones by key."""

    rows: list[pl.DataFrame]
    size: int
    corrupt: dict[str, _Corrupt]


def _together(parts: Iterable[_Files]) -> _Files:
    files = _Files([], 0, {})
    for rows, size, corrupt in parts:
        files = _Files(files.rows + rows, files.size + size, files.corrupt | corrupt)
    return files


def _decode(bodies: Sequence[tuple[str, bytes]], decode: Callable[[list[bytes]], pl.DataFrame]) -> _Files:
    """Return the rows of files with these keys and bytes; if one cannot be read, it is searched for by halves."""
    size = sum(len(body) for _, body in bodies)
    with suppress(CorruptFile):
        return _Files([decode([body for _, body in bodies])], size, {})
    if len(bodies) > 1:
        middle = len(bodies) // 2
        return _together(_decode(half, decode) for half in (bodies[:middle], bodies[middle:]))
    [(key, body)] = bodies
    try:
        migrated = to_parquet(read_parquet(body, "catalogue", Catalogue, key, REMEDY), "catalogue")
        return _Files([decode([migrated])], size, {})
    except CorruptFile as error:
        return _Files([], size, {key: _Corrupt(body, str(error))})
