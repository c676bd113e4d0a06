"""A catalogue with many small files, in a directory and in an S3 of moto: `python -m benchmarks.catalogue_files`.

It prints the seconds of cold joins of two libraries, of a read of all rows, and of `steam-import catalogue show` in a
process of its own, beside those with no small file, and of a compaction. The program names a small file after its apps,
and a join opens those of its apps; files named by hand are all read. The program itself leaves at most 99; more are
there only if others write them.

The exit status judges all that is measured: 2 s for a join with 500 files, and three times that of no small file for
everything else. Of 3,000 files that have to be read themselves this is missed: decoding their appids takes 0.1 ms a
file, and all of their columns 0.4 ms, while the large file takes 0.1 s. In S3 only a join is measured, and of files
named by hand only with 500: moto's server takes up to 10 ms a request, one by one, and misses these targets.
"""

import argparse
import logging
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory

import boto3
import structlog
from botocore.exceptions import EndpointConnectionError
from pandera.typing.polars import DataFrame

from benchmarks.catalogue import best_of, catalogue, library
from pipeline.catalogue.files import APPS, MAX_SMALL_FILES, NEW, CatalogueFiles, new_small_key
from pipeline.frames.catalogue import join_catalogue
from pipeline.storage.store import Store, open_store_at_url
from pipeline.storage.versioned import to_parquet
from schemas.catalogue import Catalogue, Overrides
from schemas.frames import empty_frame
from schemas.library import ClassifiedLibrary

KNOWN, APPS_PER_FILE = 200_000, 20
GAMES, MANY_GAMES = 300, 2_000
FEW, MANY = 500, 3_000
MOST_JOIN_SECONDS, MOST_TIMES_NONE = 2.0, 3.0
BY_HAND = f"{NEW}{{:05}}.parquet"
NAMED, UNNAMED, CORRUPT = "named by the program", "named by hand", "named by hand, one of them corrupt"
REGION, BUCKET = "eu-central-1", "catalogue"


def main() -> None:
    """Measure, and exit with 1 if a target was missed."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--store", choices=("directory", "s3"), action="append")
    kinds = arguments.parse_args().store or ["directory", "s3"]
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))  # no word of corrupt files
    met = []
    for kind in kinds:
        open_store = _directory if kind == "directory" else _s3
        with TemporaryDirectory() as folder, open_store(Path(folder)) as open_at:
            met.append(_measure(kind, open_at("none"), open_at("small")))
    sys.exit(0 if all(met) else 1)


def _measure(kind: str, none: Store, store: Store) -> bool:
    """Print the figures of a store beside those of one without small files, and return whether the targets were met."""
    rows = catalogue(KNOWN)
    for one in (none, store):
        one.write(APPS, to_parquet(rows, "catalogue"))
    find_works = _works if kind == "directory" else partial(_joins, games=(GAMES,))
    works, bare = find_works(store), find_works(none)
    is_met = True
    for naming, number in product((NAMED, UNNAMED, CORRUPT), (MAX_SMALL_FILES - 1, FEW, MANY)):
        if naming != NAMED and number != FEW and kind != "directory":
            continue
        _add_files(store, rows, number, naming)
        print(f"{kind}: {KNOWN:,} apps and {number:,} small files {naming}:")
        for name, work in works.items():
            least, seconds = best_of(bare[name], work, times=3)
            is_few = number == FEW and name.startswith("join")
            target = MOST_JOIN_SECONDS if is_few else MOST_TIMES_NONE * least
            verdict = f"{'met' if seconds <= target else 'MISSED'}: {target:.2f} s"
            print(f"  {name} {seconds:.2f} s, {seconds / least:.1f} times {least:.2f} s (target {verdict})", flush=True)
            is_met &= seconds <= target
    began = time.perf_counter()
    CatalogueFiles(store).compact()
    left = len(store.list(NEW))
    print(f"{kind}: compaction {time.perf_counter() - began:.2f} s; small files left: {left}")
    return is_met and left == 0


def _works(store: Store) -> dict[str, Callable[[], object]]:
    """Return what is measured in a directory, by its name."""
    program = str(Path(sys.executable).with_name("steam-import"))
    command = [program, "catalogue", "show", "--store-url", store.locate("")]
    return {
        **_joins(store, (GAMES, MANY_GAMES)),
        "read of all rows": lambda: CatalogueFiles(store).read(),
        "show": lambda: subprocess.run(command, check=True, capture_output=True),
    }


def _joins(store: Store, games: Sequence[int]) -> dict[str, Callable[[], object]]:
    def join(owned: DataFrame[ClassifiedLibrary]) -> None:
        join_catalogue(owned, CatalogueFiles(store).read_about(owned), empty_frame(Overrides))

    return {f"join of {number:,}": partial(join, library(number, KNOWN)) for number in games}


def _add_files(store: Store, rows: DataFrame[Catalogue], number: int, naming: str) -> None:
    """Write small files until there are `number` of them, all named alike, and one of them corrupt or none."""
    keys = [key for key in store.list(NEW) if (len(key) > len(BY_HAND.format(0))) == (naming == NAMED)]
    for key in (store.list(NEW).keys() - keys) | set(keys[number:]):
        store.delete(key)
    for part in range(len(keys), number):
        added = rows[part * APPS_PER_FILE : (part + 1) * APPS_PER_FILE]
        key = new_small_key(added["appid"]) if naming == NAMED else BY_HAND.format(part)
        store.write(key, to_parquet(added, "catalogue"))
    if naming == CORRUPT:
        store.write(BY_HAND.format(0), b"corrupt")


@contextmanager
def _directory(folder: Path) -> Iterator[Callable[[str], Store]]:
    """Yield a function that opens a store in a directory below a folder."""
    yield lambda name: open_store_at_url(str(folder / name))


@contextmanager
def _s3(_folder: Path) -> Iterator[Callable[[str], Store]]:
    """Yield a function that opens a store in a bucket of moto's server, which is a process of its own."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    os.environ |= {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing"}
    url, server = f"http://127.0.0.1:{port}", str(Path(sys.executable).with_name("moto_server"))
    with subprocess.Popen([server, "-p", str(port)], stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as process:
        try:
            client = boto3.session.Session(region_name=REGION).client("s3", endpoint_url=url)
            for _ in range(100):
                try:
                    client.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": REGION})
                    break
                except EndpointConnectionError:
                    time.sleep(0.1)
            yield lambda name: open_store_at_url(f"s3://{BUCKET}/{name}", region=REGION, endpoint_url=url)
        finally:
            process.terminate()


if __name__ == "__main__":
    main()
