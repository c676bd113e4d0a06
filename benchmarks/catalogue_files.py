"""A catalogue with many small files, in a directory and in an S3 of moto: `python -m benchmarks.catalogue_files`.

It prints the seconds of a cold join of one library, of cold reads of the whole catalogue without and with small files,
and of a compaction. The program itself leaves at most 99 small files; more are there only if others write them. The
exit status judges the 99; 3,000 are printed beside them. moto's server takes up to 10 ms a request, one by one.
"""

import argparse
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import cycle, islice
from pathlib import Path
from tempfile import TemporaryDirectory

import boto3
from botocore.exceptions import EndpointConnectionError

from benchmarks.catalogue import catalogue, library
from pipeline.catalogue.files import APPS, MAX_SMALL_FILES, NEW, CatalogueFiles
from pipeline.frames.catalogue import join_catalogue, rows_about_apps
from pipeline.storage.store import Store, open_store_at_url
from pipeline.storage.versioned import to_parquet
from schemas.catalogue import Overrides
from schemas.frames import empty_frame

KNOWN, GAMES, APPS_PER_FILE, DISTINCT = 200_000, 300, 20, 300
FEW, MANY = 500, 3_000
MOST_JOIN_SECONDS, MOST_TIMES_NONE = 2.0, 3.0
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
    bodies = [to_parquet(rows[start : start + APPS_PER_FILE], "catalogue") for start in range(DISTINCT)]
    owned = library(GAMES, KNOWN)

    def join() -> None:
        known = rows_about_apps(CatalogueFiles(store).read(), owned)
        join_catalogue(owned, known, empty_frame(Overrides))

    def read() -> None:
        CatalogueFiles(store).read()

    left_most = MAX_SMALL_FILES - 1
    none = min(_seconds(read) for _ in range(3))
    _add_files(store, bodies, left_most)
    usual = min(_seconds(read) for _ in range(3))
    _add_files(store, bodies, FEW)
    joined = min(_seconds(join) for _ in range(3))
    _add_files(store, bodies, MANY)
    many = min(_seconds(read) for _ in range(3))
    compacted = _seconds(CatalogueFiles(store).compact)
    left, after = len(store.list(NEW)), _seconds(read)
    print(f"{kind}: cold join of {GAMES} games over {KNOWN:,} apps, {FEW} small files: {joined:.2f} s (target: 2 s)")
    print(f"{kind}: cold read without small files: {none:.2f} s")
    for number, seconds in ((left_most, usual), (MANY, many)):
        print(f"{kind}: with {number:,} of them: {seconds:.2f} s, {seconds / none:.1f} times (target: 3 times)")
    print(
        f"{kind}: compaction {compacted:.2f} s; small files left: {left}; cold read after it {after:.2f} s", flush=True
    )
    return joined <= MOST_JOIN_SECONDS and usual / none <= MOST_TIMES_NONE and left == 0


def _add_files(store: Store, bodies: list[bytes], number: int) -> None:
    """Write small files until there are `number` of them, of some distinct contents in turns."""
    for name, body in enumerate(islice(cycle(bodies), number)):
        store.write(f"{NEW}{name:05}.parquet", body)


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
