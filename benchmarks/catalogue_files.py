"""A catalogue with many small files, in a directory and in an S3 of moto: `python -m benchmarks.catalogue_files`.

It prints the seconds of cold reads, each by a new process from its start on, as of a command or of a Lambda function
that was just started: joins of two libraries, and a read of all rows. Beside them stand those with no small file, and
the ratio without the start. The program names a small file after its apps, and a join opens those of its apps; files
named by hand are all read. The program itself leaves at most 99; more are there only if others write them.

The exit status judges what is measured in the directory: a join of 300 games with 500 files by 2 s, everything else by
three times the seconds with no small file; and a compaction has to leave no small file. The S3 of moto is not judged:
its server answers one request at a time, each in up to 10 ms.
"""

import argparse
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory

import boto3
from botocore.exceptions import EndpointConnectionError
from pandera.typing.polars import DataFrame

from benchmarks.catalogue import best_of, catalogue, library
from pipeline.catalogue.files import APPS, MAX_SMALL_FILES, NEW, CatalogueFiles, new_small_key
from pipeline.storage.store import Store, open_store_at_url
from pipeline.storage.versioned import to_parquet
from schemas.catalogue import Catalogue

KNOWN, APPS_PER_FILE = 200_000, 20
GAMES, MANY_GAMES = 300, 2_000
FEW, MANY = 500, 3_000
MOST_JOIN_SECONDS, MOST_TIMES_NONE = 2.0, 3.0
BY_HAND = f"{NEW}{{:05}}.parquet"
NAMED, UNNAMED, CORRUPT = "named by the program", "named by hand", "named by hand, one of them corrupt"
REGION, BUCKET = "eu-central-1", "catalogue"
IN_S3 = ((NAMED, FEW), (NAMED, MANY), (UNNAMED, FEW))


def main() -> None:
    """Measure, and exit with 1 if a target was missed."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--store", choices=("directory", "s3"), action="append")
    kinds = arguments.parse_args().store or ["directory", "s3"]
    met = []
    for kind in kinds:
        open_store = _directory if kind == "directory" else _s3
        with TemporaryDirectory() as folder, open_store(Path(folder)) as open_at:
            is_met = _measure(kind, open_at("none"), open_at("small"), Path(folder))
        met.append(is_met or kind == "s3")
    sys.exit(0 if all(met) else 1)


def _measure(kind: str, none: Store, store: Store, folder: Path) -> bool:
    """Print the figures of a store beside those of one without small files, and return whether the targets were met."""
    rows = catalogue(KNOWN)
    for one in (none, store):
        one.write(APPS, to_parquet(rows, "catalogue"))
    works: dict[str, list[str]] = {"read of all rows": []}
    for games in (GAMES, MANY_GAMES):
        path = folder / f"{games}.parquet"
        library(games, KNOWN).write_parquet(path)
        works[f"join of {games:,}"] = [str(path)]
    [start] = best_of(
        partial(subprocess.run, [sys.executable, "-c", "import benchmarks.cold_read"], check=True), times=5
    )
    print(f"{kind}: {start:.2f} s of each read are the start of the process")
    is_met = True
    for naming, number in product((NAMED, UNNAMED, CORRUPT), (MAX_SMALL_FILES - 1, FEW, MANY)):
        if kind != "directory" and (naming, number) not in IN_S3:
            continue
        _add_files(store, rows, number, naming)
        print(f"{kind}: {KNOWN:,} apps and {number:,} small files {naming}:")
        for name, arguments in works.items():
            least, seconds = best_of(*(partial(_read, one, arguments) for one in (none, store)), times=3)
            is_first = (name, number) == (f"join of {GAMES}", FEW)
            target = MOST_JOIN_SECONDS if is_first else MOST_TIMES_NONE * least
            verdict = f"{'met' if seconds <= target else 'MISSED'}: {target:.2f} s"
            times, times_started = seconds / least, (seconds - start) / (least - start)
            print(f"  {name} {seconds:.2f} s, {times:.1f} times {least:.2f} s (target {verdict});", end=" ")
            print(f"without the start {times_started:.1f} times", flush=True)
            is_met &= seconds <= target
    began = time.perf_counter()
    CatalogueFiles(store).compact()
    left = len(store.list(NEW))
    print(f"{kind}: compaction {time.perf_counter() - began:.2f} s; small files left: {left}")
    return is_met and left == 0


def _read(store: Store, arguments: list[str]) -> None:
    command = [sys.executable, "-m", "benchmarks.cold_read", store.locate("").rstrip("/"), *arguments]
    subprocess.run(command, check=True)


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
    url = f"http://127.0.0.1:{port}"
    os.environ |= {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing"}
    os.environ |= {"AWS_REGION": REGION, "AWS_ENDPOINT_URL_S3": url}
    server = str(Path(sys.executable).with_name("moto_server"))
    with subprocess.Popen([server, "-p", str(port)], stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as process:
        try:
            client = boto3.session.Session(region_name=REGION).client("s3", endpoint_url=url)
            for _ in range(100):
                try:
                    client.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": REGION})
                    break
                except EndpointConnectionError:
                    time.sleep(0.1)
            yield lambda name: open_store_at_url(f"s3://{BUCKET}/{name}", region=REGION)
        finally:
            process.terminate()


if __name__ == "__main__":
    main()
