"""The figures of what is tried against this project: hostile inputs, canary secrets, and attempts on what is another's.

`python -m benchmarks.hardening [THOUSANDTHS]`: of the inputs so many thousandths.
"""

import sys

import structlog

from benchmarks import fuzz
from tests.canaries import leaks
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
        codes = {attempt.name: refusal(attempt) for attempt in attempts}
        is_touched = wire.is_touched()
    let_in = [name for name, code in codes.items() if code not in REFUSALS]
    print(f"Cross-tenant attempts refused: {len(codes) - len(let_in)} of {len(codes)}. Network touched: {is_touched}.")
    for name in let_in:
        print(f"LET IN: {name}")
    structlog.reset_defaults()
    return not (findings or found or let_in or is_touched)


if __name__ == "__main__":
    sys.exit(0 if main(*map(int, sys.argv[1:])) else 1)
