"""``gitserver doctor``: examine an installation."""

import json

import click

from gitserver.cli.options import Exit, config_option, json_option
from gitserver.config import Config
from gitserver.operations.examination import CHECKS, examine

_COLOUR = {"OK": "green", "WARN": "yellow", "FAIL": "red"}


@click.command()
@click.option("--only", type=click.Choice(list(CHECKS)), help="One check.")
@json_option
@config_option
def doctor(config: Config, only: str | None, as_json: bool) -> int:
    """Examine permissions, keys, database, blobs, disk, clock, TLS, ports and both doors by their public URLs.

    Each line is OK, WARN or FAIL; below a WARN or FAIL stands what to do. Ends with 1 if anything FAILed.
    """
    findings = []
    for finding in examine(config, only):
        findings.append(finding)
        if not as_json:
            click.echo(
                f"{click.style(f'{finding.level:<4}', fg=_COLOUR[finding.level])}  {finding.check}: {finding.what}"
            )
            if finding.fix:
                click.echo(f"      fix: {finding.fix}")
    failed = any(finding.level == "FAIL" for finding in findings)
    if as_json:
        rows = [{"check": one.check, "level": one.level, "what": one.what, "fix": one.fix} for one in findings]
        click.echo(json.dumps({"healthy": not failed, "findings": rows}, indent=2))
    return Exit.FAILED if failed else Exit.DONE
