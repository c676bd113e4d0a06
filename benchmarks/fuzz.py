"""A million hostile inputs: whatever ends otherwise than in a result or one of our own errors is a finding.

`python -m benchmarks.fuzz [THOUSANDTHS [SEED]]`: of all inputs so many thousandths; the seed repeats a run.
"""

import logging
import os
import resource
import signal
import sys
import time
import traceback
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from random import Random, randrange
from typing import NamedTuple

import polars as pl
import structlog

from pipeline.errors import PipelineError
from tests.hostile import KINDS

INPUTS = {
    "steam ids and URLs": 400_000,
    "events": 250_000,
    "locations": 180_000,
    "overrides": 50_000,
    "review sheets": 30_000,
    "manifests": 10_000,
    "CSVs": 12_000,
    "Steam answers": 8_000,
    "IGDB and store answers": 2_000,
    "IGDB answers to a sync": 2_000,
    "what a sync left behind": 2_000,
    "catalogue files": 2_000,
    "backfill events": 60_000,
    "lists of users": 4_000,
    "backfills": 2_000,
    "shard CSVs": 2_000,
}
BATCHES = 40
SECONDS = 10
"""Longer than this is a hang."""

MEMORY_BYTES = 6 * 2**30
"""Of addresses; more than this is an allocation without bounds."""


class Done(NamedTuple):
    """What became of a batch: inputs by outcome, and the findings, each by where it was raised."""

    kind: str
    outcomes: Counter[str]
    findings: Counter[str]
    megabytes: float


def main(thousandths: int = 1_000, seed: int | None = None) -> int:
    """Fuzz on every core; the number of findings."""
    seed = randrange(2**32) if seed is None else seed
    print(f"seed {seed}")
    began = time.perf_counter()
    batches = [
        (kind, f"{seed}-{kind}-{number}", max(1, total * thousandths // 1_000 // BATCHES))
        for kind, total in INPUTS.items()
        for number in range(BATCHES)
    ]
    outcomes, findings, megabytes = Counter[tuple[str, str]](), Counter[str](), 0.0
    with ProcessPoolExecutor(os.cpu_count(), get_context("spawn"), _quiet) as workers:
        for done in workers.map(_fuzz, *zip(*batches, strict=True)):
            outcomes.update({(done.kind, outcome): number for outcome, number in done.outcomes.items()})
            findings += done.findings
            megabytes = max(megabytes, done.megabytes)
    for kind in INPUTS:
        good, ours = outcomes[kind, "result"], outcomes[kind, "error"]
        bad = outcomes[kind, "finding"]
        print(
            f"{kind:24}{good + ours + bad:>10,} inputs {good:>10,} results {ours:>10,} errors of ours {bad:>6} findings"
        )
    for finding, number in findings.most_common():
        print(f"FINDING ({number} times, most lately by this):\n{finding}")
    total = sum(outcomes.values())
    print(
        f"Inputs: {total:,}. Findings: {findings.total()}. Seconds: {time.perf_counter() - began:.0f}. "
        f"Most memory of a process: {megabytes:,.0f} MB."
    )
    return findings.total()


def _quiet() -> None:
    """Our log, and what Polars' panics print, would be longer than the findings."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    signal.signal(signal.SIGALRM, _hang)
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())


def _hang(_number: int, _frame: object) -> None:
    raise TimeoutError(f"it took more than {SECONDS} seconds")


def _fuzz(name: str, seed: str, inputs: int) -> Done:
    random, kind = Random(seed), KINDS[name]
    outcomes, findings = Counter[str](), Counter[str]()
    for _ in range(inputs):
        given = kind.make(random)
        signal.setitimer(signal.ITIMER_REAL, SECONDS)
        try:
            kind.take(given)
            outcomes["result"] += 1
        except PipelineError:
            outcomes["error"] += 1
        except (Exception, pl.exceptions.PanicException) as error:  # noqa: BLE001 - whatever it is, it is a finding
            outcomes["finding"] += 1
            findings[_where(name, error)] += 1
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
    return Done(name, outcomes, findings, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def _where(name: str, error: BaseException) -> str:
    frames = [f"{frame.filename}:{frame.lineno}" for frame in traceback.extract_tb(error.__traceback__)]
    ours = [frame for frame in frames if ".venv" not in frame]
    return f"  {name}: {type(error).__name__}: {str(error)[:160]!r}\n  " + "\n  ".join(ours[-4:])


if __name__ == "__main__":
    sys.exit(1 if main(*map(int, sys.argv[1:])) else 0)
