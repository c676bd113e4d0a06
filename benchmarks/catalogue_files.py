"""A catalogue with many small files, in a directory and in an S3 of moto: `python -m benchmarks.catalogue_files`.

It prints the seconds of a cold join of one library, of `steam-import catalogue show` in a process of its own, and of a
compaction. The program names a small file after its apps, and a join opens those of its apps; files named by hand are
all read. At most 99 are left by the program itself; more are there only if others write them.

The exit status judges the joins, without the start of a process: 2 s with 500 files, three times that of none with 99
and 3,000; of files named by hand those in a directory with 99 and 500. And it judges show, with the start, in a
directory: three times that of none. moto's server takes up to 10 ms a request, one by one.
"""

import argparse
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory

import boto3
from botocore.exceptions import EndpointConnectionError
from pandera.typing.polars import DataFrame

from benchmarks.catalogue import catalogue, library
from pipeline.catalogue.files import APPS, MAX_SMALL_FILES, NEW, CatalogueFiles, new_small_key
from pipeline.frames.catalogue import join_catalogue
from pipeline.storage.store import Store, open_store_at_url
from pipeline.storage.versioned import to_parquet
from schemas.catalogue import Catalogue, Overrides
from schemas.frames import empty_frame

KNOWN, GAMES, APPS_PER_FILE = 200_000, 300, 20
FEW, MANY = 500, 3_000
MOST_JOIN_SECONDS, MOST_TIMES_NONE = 2.0, 3.0
BY_HAND = f"{NEW}{{:05}}.parquet"
REGION, BUCKET = "eu-central-1", "catalogue"


def main() -> None:
    """Measure, and exit with 1 if a target was missed."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--store", choices=("directory", "s3"), action="append")
    kinds = arguments.parse_args().store or ["directory", "s3"]
    met = []
    for kind in kinds:
        with TemporaryDirectory() as folder, (_directory if kind == "directory" else _s3)(Path(folder)) as store:
            met.append(_measure(kind, store))
    sys.exit(0 if all(met) else 1)


def _measure(kind: str, store: Store) -> bool:
    """Print the figures of a store, and return whether the targets were met."""
    rows = catalogue(KNOWN)
    store.write(APPS, to_parquet(rows, "catalogue"))
    owned, is_directory = library(GAMES, KNOWN), kind == "directory"

    def join() -> None:
        join_catalogue(owned, CatalogueFiles(store).read_about(owned), empty_frame(Overrides))

    def show() -> None:
        program = str(Path(sys.executable).with_name("steam-import"))
        command = [program, "catalogue", "show", "--store-url", store.locate("")]
        subprocess.run(command, check=True, capture_output=True)

    all_rows = _quickest(lambda: CatalogueFiles(store).read())
    none, none_shown = _quickest(join), _quickest(show) if is_directory else 0.0
    print(f"{kind}: {KNOWN:,} apps: cold join of {GAMES} games {none:.2f} s; read of all rows {all_rows:.2f} s", end="")
    print(f"; show {none_shown:.2f} s" if is_directory else "", flush=True)
    is_met = True
    for is_named, number in product((True, False), (MAX_SMALL_FILES - 1, FEW, MANY)):
        if not (is_named or is_directory or number == FEW):
            continue
        _add_files(store, rows, number, is_named=is_named)
        seconds, target = _quickest(join), MOST_JOIN_SECONDS if number == FEW else MOST_TIMES_NONE * none
        print(f"{kind}: {number:,} small files named by {'the program' if is_named else 'hand'}", end=": ")
        print(f"join {seconds:.2f} s, {seconds / none:.1f} times (target: {target:.2f} s)", end="", flush=True)
        is_met &= seconds <= target or not (is_named or (is_directory and number < MANY))
        shown = _quickest(show) if is_directory else 0.0
        print(
            f"; show {shown:.2f} s (target: {MOST_TIMES_NONE * none_shown:.2f} s)" if is_directory else "", flush=True
        )
        is_met &= shown <= MOST_TIMES_NONE * none_shown
    compacted = _seconds(CatalogueFiles(store).compact)
    left = len(store.list(NEW))
    print(f"{kind}: compaction {compacted:.2f} s; small files left: {left}; cold join after it {_quickest(join):.2f} s")
    return is_met and left == 0


def _add_files(store: Store, rows: DataFrame[Catalogue], number: int, *, is_named: bool) -> None:
    """Write small files until there are `number` of them, all named by the program or all by hand."""
    keys = [key for key in store.list(NEW) if (len(key) > len(BY_HAND.format(0))) == is_named]
    for key in store.list(NEW).keys() - keys:
        store.delete(key)
    for part in range(len(keys), number):
        added = rows[part * APPS_PER_FILE : (part + 1) * APPS_PER_FILE]
        key = new_small_key(added["appid"]) if is_named else BY_HAND.format(part)
        store.write(key, to_parquet(added, "catalogue"))


def _quickest(work: Callable[[], object]) -> float:
    return min(_seconds(work) for _ in range(3))


def _seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


@contextmanager
def _directory(folder: Path) -> Iterator[Store]:
    yield open_store_at_url(str(folder))


@contextmanager
def _s3(_folder: Path) -> Iterator[Store]:
    """Yield a store in a bucket of moto's server, which is a process of its own."""
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
            yield open_store_at_url(f"s3://{BUCKET}", region=REGION, endpoint_url=url)
        finally:
            process.terminate()


if __name__ == "__main__":
    main()
