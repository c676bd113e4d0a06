"""What people see of a backfill: what it will cost, and what became of it."""

from rich.table import Table

from pipeline.frames.plan import STEAM_CALLS_A_DAY, Estimate
from pipeline.terminal import figures
from schemas.backfill import OUTCOMES, SHARD_STEPS, PlanRecord, Report

STEPS = ("fetch", "catalogue", "enrich", "load")
NO_PARTS = ("rows", "unchanged")
"""Counts of a stage that are not among those that its rows add up to."""


def planned(plan: PlanRecord, estimate: Estimate, done: dict[str, int]) -> Table:
    """Users, shards, and the most that a backfill will ask of either API."""
    table = figures()
    table.add_row("Users", f"{plan.users:,}", f"and lines rejected: {plan.rejected:,}" if plan.rejected else "")
    through = ", ".join(
        f"{done[step]} {word}" for step, word in zip(SHARD_STEPS, ("fetched", "enriched", "loaded"), strict=True)
    )
    table.add_row("Shards", f"{plan.shards:,}", f"of up to {plan.shard_size} users; {through}")
    table.add_row(
        "Steam requests",
        f"{estimate.steam_requests:,}",
        f"at least, {estimate.steam_requests / STEAM_CALLS_A_DAY:.1%} of the {STEAM_CALLS_A_DAY:,} that Steam allows "
        f"a day; {_duration(estimate.steam_seconds)}",
    )
    table.add_row("IGDB requests", f"{estimate.igdb_requests:,}", f"at the most; {_duration(estimate.igdb_seconds)}")
    return table


def balance(report: Report) -> Table:
    """Users by outcome, rows in and out of each stage, and what it cost."""
    table = figures()
    for outcome in ("total", *OUTCOMES):
        if report.users[outcome]:
            table.add_row("Users" if outcome == "total" else f"  {outcome}", f"{report.users[outcome]:,}", "")
    for step, counts in report.stages.items():
        out = ", ".join(f"{rows:,} {what}" for what, rows in counts.items() if rows and what not in NO_PARTS)
        out += f"; {counts['unchanged']:,} as they were" if counts.get("unchanged") else ""
        table.add_row(f"Rows to {step}", f"{counts.get('rows', 0):,}", out)
    written = sum(rows for what, rows in report.written.items() if what.endswith(("_created", "_updated")))
    table.add_row("Rows written", f"{written:,}", "")
    for step in STEPS:
        effort = report.effort[step]
        parts = [f"{effort.requests:,} requests" if effort.requests else ""]
        parts += [f"{effort.rate_limited:,} of them refused for their rate" if effort.rate_limited else ""]
        parts += [f"{effort.rows_per_second:,.0f} rows a second" if effort.rows_per_second else ""]
        table.add_row(f"Seconds, {step}", f"{effort.seconds:,.1f}", ", ".join(part for part in parts if part))
    for failure in report.failures[:10]:
        table.add_row("Failed", "", failure)
    return table


def _duration(seconds: float) -> str:
    for unit, length in (("days", 86_400), ("hours", 3_600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.0f} s"
