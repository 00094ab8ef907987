"""``gitserver verify``: read everything that is stored."""

import json

import click

from gitserver.cli.desk import Desk, at_desk
from gitserver.cli.init import tell_step
from gitserver.cli.options import Exit, json_option


@click.command()
@click.argument("name", required=False)
@json_option
@at_desk
def verify(desk: Desk, name: str | None, as_json: bool) -> int:
    """Open every blob wholly, check every pack and index, every ref, and that nothing they need is missing.

    NAME is one repository; without it, all of them in every account. Prints what is wrong and ends with 1, or with 0
    if nothing is. The server may run meanwhile.
    """
    from gitserver.operations.verification import Tally
    from gitserver.operations.verification import verify as look

    tally, found = Tally(), []
    for problem in look(desk.services, desk.caller, name, tally, tell_step):
        found.append(problem)
        if not as_json:
            click.echo(f"{problem.where}: {problem.what}")
    facts = {
        "sound": not found,
        "repositories": tally.repositories,
        "blobs": tally.blobs,
        "bytes": tally.bytes,
        "problems": [{"where": one.where, "what": one.what} for one in found],
    }
    if as_json:
        click.echo(json.dumps(facts, indent=2))
    else:
        summary = f"{tally.repositories} repositories, {tally.blobs} blobs, {tally.bytes} bytes:"
        click.echo(f"{summary} {f'{len(found)} problems' if found else 'all sound'}.", err=True)
    return Exit.FAILED if found else Exit.DONE
