"""How fast a bundle starts, and what a library of 2,000 games takes: `python -m benchmarks.cold_start`."""

import argparse
import logging
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3
from moto.server import ThreadedMotoServer

from infra.local_lambda import environment, install_runtime, running, unpack
from infra.package import ZIPS, find_python, package
from pipeline.database.database import Database
from pipeline.sandbox.embedded import create_tables
from pipeline.sandbox.postgres import serve_postgres
from pipeline.sandbox.server import Sandbox
from pipeline.sandbox.world import World

RUNS, GAMES, LATENCY_SECONDS = 10, 2_000, 0.08
MOST_TIMES_POLARS = {"steam_import": 3.5, "igdb_enrichment": 3.5, "database_import": 4.0}
MOST_MEGABYTES = 512
MOST_SECONDS = {"nothing cached": 6.0, "catalogue warm": 2.0}
SLOWEST = 12

USER, BUCKET = "user-1", "savepoint-imports"
RAW = f"s3://{BUCKET}/imports/{USER}/20261123T031749Z-raw.csv"
EVENTS: dict[str, dict[str, Any]] = {
    "steam_import": {"user_id": USER, "steam_id64": World.SYNTHETIC_ACCOUNT, "timestamp": "20261123T031749Z"},
    "igdb_enrichment": {"user_id": USER, "s3_location": RAW},
    "database_import": {"user_id": USER, "s3_enriched_location": RAW.replace("-raw", "-enriched")},
}
REFUSED = {
    "steam_import": {"user_id": USER, "steam_id64": "no Steam id"},
    "igdb_enrichment": {"user_id": "user-2", "s3_location": RAW},
    "database_import": {"user_id": "user-2", "s3_enriched_location": EVENTS["database_import"]["s3_enriched_location"]},
}
"""Events that are refused after the settings are read and the S3 client is made, before any request."""

AT_ONCE = "import os; os._exit(0)"
COLD = "import handlers.{0}; assert not handlers.{0}.handler({1!r}, None)['success']; " + AT_ONCE
SETTINGS = {
    "S3_BUCKET": BUCKET,
    "LOG_LEVEL": "ERROR",
    "STEAM_API_KEY": "x",
    "IGDB_CLIENT_ID": "x",
    "IGDB_CLIENT_SECRET": "x",
    "DATABASE_URL": "postgresql://127.0.0.1:1/x",
}


def times_polars(python: str, function: str, variables: Mapping[str, str]) -> float:
    """A cold start over an import of polars alone right after it, on a machine that others may use; the median pair."""
    programs = (COLD.format(function, REFUSED[function]), f"import polars; {AT_ONCE}")
    seconds = [[_seconds(python, program, variables) for program in programs] for _ in range(RUNS + 1)][1:]
    cold, polars = (statistics.median(column) for column in zip(*seconds, strict=True))
    times = statistics.median(start / alone for start, alone in seconds)
    print(f"{function:<16} {cold:.3f} s cold, {polars:.3f} s polars alone: {times:.2f} times")
    return times


def _seconds(python: str, program: str, variables: Mapping[str, str]) -> float:
    started = time.perf_counter()
    command = [python, "-P", "-s", "-c", program]
    subprocess.run(command, env=variables, stdout=subprocess.DEVNULL, check=True)  # where the metrics go
    return time.perf_counter() - started


def print_slowest_imports(python: str, function: str, variables: Mapping[str, str]) -> None:
    """The libraries that take longest, each with all its modules and none of those that they import from others."""
    command = [python, "-P", "-s", "-X", "importtime", "-c", f"import handlers.{function}; {AT_ONCE}"]
    told = subprocess.run(command, env=variables, capture_output=True, text=True, check=True).stderr
    milliseconds: dict[str, float] = {}
    for line in told.splitlines()[1:]:
        microseconds, _, module = line.removeprefix("import time:").split("|")
        library = module.strip().partition(".")[0]
        milliseconds[library] = milliseconds.get(library, 0.0) + int(microseconds) / 1000
    slowest = sorted(milliseconds.items(), key=lambda item: -item[1])[:SLOWEST]
    print(f"{'':<16} {', '.join(f'{library} {taken:.0f} ms' for library, taken in slowest)}")


@contextmanager
def services(folder: Path) -> Iterator[dict[str, str]]:
    """The settings that lead to a sandbox of 2,000 games, an S3 of moto's and a database."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    place = {"S3_BUCKET": BUCKET, "AWS_ENDPOINT_URL_S3": f"http://{host}:{port}"}
    client = boto3.client(
        "s3",
        region_name="eu-central-1",
        endpoint_url=place["AWS_ENDPOINT_URL_S3"],
        aws_access_key_id="x",
        aws_secret_access_key="x",  # noqa: S106 - moto takes any
    )
    client.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
    with Sandbox(World.synthetic(GAMES), latency_seconds=LATENCY_SECONDS) as sandbox, serve_postgres(folder) as url:
        create_tables(url)
        Database(url).ensure_users([USER])
        yield sandbox.environment | place | {"DATABASE_URL": url}
    server.stop()


def stages(python: str, folder: Path, runtime: Path) -> list[bool]:
    """All three stages with nothing cached, then with the catalogue warm, each function told to have 512 MB."""
    totals, fits = dict.fromkeys(MOST_SECONDS, 0.0), []
    with services(folder / "postgres") as settings:
        for function, event in EVENTS.items():
            variables = environment(folder / function, runtime, settings)
            with running(python, f"handlers.{function}.handler", variables, folder / "log") as started:
                started.invoke(REFUSED[function])
                imported = started.peak_megabytes()
                for how in MOST_SECONDS:
                    begun = time.perf_counter()
                    answer = started.invoke(event)
                    totals[how] += time.perf_counter() - begun
                    if not answer.body["success"]:
                        sys.exit(f"{function}: {answer.body['error']}")
                peak = started.peak_megabytes()
            print(f"{function:<16} {imported:.0f} MB after import, {peak:.0f} MB after {GAMES:,} games")
            fits.append(peak <= MOST_MEGABYTES)
    for how, seconds in totals.items():
        print(f"{GAMES:,} games, {how}: {seconds:.2f} s for all three stages (at most {MOST_SECONDS[how]:.0f})")
    return [*fits, *(totals[how] <= most for how, most in MOST_SECONDS.items())]


def measure(python: str, zips: Path) -> list[bool]:
    """Each figure, and whether it met its target."""
    met = []
    with tempfile.TemporaryDirectory(prefix="cold-", dir="/tmp") as name:
        folder = Path(name)
        folder.chmod(0o755)
        runtime = install_runtime(python, folder / "runtime")
        for function, most in MOST_TIMES_POLARS.items():
            unpack(package(function, "x86_64", zips), folder / function)
            variables = environment(folder / function, runtime, SETTINGS)
            met.append(times_polars(python, function, variables) <= most)
            print_slowest_imports(python, function, variables)
        return met + stages(python, folder, runtime)


def main() -> None:
    """Measure, and exit with 1 if a target was missed."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--zips", type=Path, default=ZIPS, help="where the bundles are made")
    options = arguments.parse_args()
    python = find_python()
    if not python or os.uname().machine != "x86_64":
        sys.exit("The bundles run with Python 3.13 on x86_64: install it (pyenv install 3.13), and try again.")
    sys.exit(0 if all(measure(python, options.zips)) else 1)


if __name__ == "__main__":
    main()
