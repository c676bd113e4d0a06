"""The command that says what to mend before an import."""

import json
import sys

import click

from pipeline.commands import Command
from pipeline.doctor import Finding, examine
from pipeline.options import IGDB, STEAM, json_option, with_settings
from pipeline.settings import Settings
from pipeline.terminal import is_quiet, tell

EXIT_FAILED, EXIT_SKIPPED = 1, 2


@click.command(cls=Command, epilog="steam-import doctor")
@json_option
@with_settings(*dict.fromkeys((*STEAM, *IGDB, "database_url")))
def doctor(settings: Settings, *, as_json: bool) -> None:
    """Check keys, store, database, clock and versions, and say what to mend.

    The exit status is 0 when all is well, 1 when something failed, and 2 when nothing did but settings are missing.
    """
    findings: list[Finding] = []
    for finding in examine(settings):
        findings.append(finding)
        if not as_json and not (is_quiet() and finding.status == "ok"):
            tell(f"{finding.status:8} {finding.check:10} {finding.says}")
    if as_json:
        click.echo(json.dumps([finding._asdict() for finding in findings]))
    met = {finding.status for finding in findings}
    sys.exit(EXIT_FAILED if "failed" in met else EXIT_SKIPPED if "skipped" in met else 0)
