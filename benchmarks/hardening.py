"""The figures of what is tried against this project: hostile inputs, canary secrets, trespasses, and crashes.

`python -m benchmarks.hardening [THOUSANDTHS]`: of the inputs, and of the crash points, so many thousandths.
"""

import logging
import sys
from contextlib import redirect_stdout
from datetime import date
from io import StringIO

import structlog

from benchmarks import fuzz
from pipeline.sandbox.embedded import create_tables, serve_postgres
from tests.canaries import leaks
from tests.crashes import COMMANDS, crashing, drawn
from tests.folders import open_folder
from tests.trespass import REFUSALS, refusal, trespassing

LEVELS = ("DEBUG", "INFO", "ERROR")


def main(thousandths: int = 1_000) -> bool:
    """Print the figures; whether all is well."""
    findings = fuzz.main(thousandths)
    runs, found = 0, 0
    for level in LEVELS:
        with open_folder() as folder:
            leaked, run = leaks(folder, level)
        runs, found = runs + len(run.ended), found + len(leaked)
        for leak in leaked:
            print(f"LEAK: {leak.canary} in {leak.where}")
    print(f"Canary leaks: {found}, in {runs} runs at {len(LEVELS)} levels of the log.")
    with open_folder() as folder, trespassing(folder) as (attempts, wire):
        with redirect_stdout(StringIO()):  # what the handlers log
            codes = {attempt.name: refusal(attempt) for attempt in attempts}
        is_touched = wire.is_touched()
    let_in = [name for name, code in codes.items() if code not in REFUSALS]
    print(f"Cross-tenant attempts refused: {len(codes) - len(let_in)} of {len(codes)}. Network touched: {is_touched}.")
    for name in let_in:
        print(f"LET IN: {name}")
    crashed = crash_points(thousandths)
    structlog.reset_defaults()
    return not (findings or found or let_in or is_touched or crashed)


def crash_points(thousandths: int) -> int:
    """Break off an import and a backfill, and print at how many points; how many of them were not made good."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    of_all, visited, failed = 0, 0, 0
    with open_folder() as folder, serve_postgres(folder / "postgres") as url:
        create_tables(url)
        for name, command in COMMANDS.items():
            with crashing(command, url, folder / name) as crashes:
                for point in drawn(crashes, f"{date.today()}", thousandths / 1_000):  # noqa: DTZ011 - a seed
                    faults = crashes.faults(point)
                    visited, failed = visited + 1, failed + bool(faults)
                    for fault in faults:
                        print(f"NOT MADE GOOD: {name}, {point}: {fault}")
                of_all += len(crashes.points)
    print(f"Crash points visited: {visited} of {of_all}. Passed: {visited - failed}.")
    return failed


if __name__ == "__main__":
    sys.exit(0 if main(*map(int, sys.argv[1:])) else 1)
