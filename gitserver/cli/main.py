"""The command ``gitserver``: finds the subcommand, and turns failures into sentences and exit codes."""

import errno
import importlib
import os
import sys
import traceback
from typing import Any

import click

from gitserver.cli.options import EXIT_CODES, Exit
from gitserver.config import InvalidSetting, Unusable
from gitserver.core.errors import Failure
from gitserver.process import leave_no_core

_COMMANDS = {  # name: where it is; imported only when it is asked for, so that every command starts fast
    "admin": "gitserver.cli.admin:admin",
    "backup": "gitserver.cli.backup:backup",
    "completion": "gitserver.cli.completion:completion",
    "db": "gitserver.cli.db:db",
    "doctor": "gitserver.cli.doctor:doctor",
    "init": "gitserver.cli.init:init",
    "keys": "gitserver.cli.keys:keys",
    "restore": "gitserver.cli.backup:restore",
    "serve": "gitserver.cli.serve:serve",
    "verify": "gitserver.cli.verify:verify",
}
_WHAT = {  # what `gitserver --help` says of them without importing them
    "admin": "Accounts, users, credentials and repositories.",
    "backup": "Copy a running server's database and blobs.",
    "completion": "Print the shell completion script.",
    "db": "Upgrade the database.",
    "doctor": "Examine the whole installation; say how to mend it.",
    "init": "Make a new data directory.",
    "keys": "Back up or rotate keys; renew the certificate.",
    "restore": "Make a data directory from a backup.",
    "serve": "Serve git over HTTPS and SSH.",
    "verify": "Open every blob, check every pack and ref.",
}
_REFUSALS = {  # what the system refuses without anything being wrong here, and what to do
    errno.EACCES: "run as a user who may do this",
    errno.EPERM: "run as a user who may do this",
    errno.EROFS: "choose another place",
    errno.ENOSPC: "make room, or choose another place",
    errno.EDQUOT: "make room, or choose another place",
}


class _Commands(click.Group):
    """A group that imports a command when it is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return sorted(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in _COMMANDS:
            return None
        module, _, name = _COMMANDS[cmd_name].partition(":")
        command = getattr(importlib.import_module(module), name)
        assert isinstance(command, click.Command)  # noqa: S101 - the table above is ours
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, _WHAT[name]) for name in self.list_commands(ctx)])


@click.command("gitserver", cls=_Commands, epilog=EXIT_CODES)
@click.version_option(package_name="gitserver")
def gitserver() -> None:
    """A git host of your own, speaking CodeCommit's dialect, with every stored byte sealed.

    Start with `gitserver init --data DIR`, then `gitserver serve --data DIR`. Every command finds its data directory
    by --data or by the environment variable GITSERVER_DATA.
    """


def main(arguments: list[str] | None = None) -> None:
    """Run one command and end the process with its exit code."""
    leave_no_core()
    given = sys.argv[1:] if arguments is None else arguments
    sys.exit(run(given))


def run(arguments: list[str]) -> int:
    """Run one command; failures become a sentence on standard error.

    Returns:
        The exit code, as ``docs/command-line.md`` lists them.
    """
    debug = "--debug" in arguments or bool(os.environ.get("GITSERVER_DEBUG"))
    try:
        result: Any = gitserver.main(args=arguments, prog_name="gitserver", standalone_mode=False)
    except click.exceptions.Exit as done:
        return done.exit_code
    except click.ClickException as wrong:
        wrong.show()
        return Exit.USAGE if isinstance(wrong, click.UsageError) else Exit.FAILED
    except (click.Abort, KeyboardInterrupt):
        click.echo("Interrupted.", err=True)
        return Exit.INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nobody reads; the last flush must not fail
        return Exit.FAILED
    except Failure as failure:
        _tell(f"Error: {failure}", debug)
        return Exit.UNUSABLE if isinstance(failure, InvalidSetting | Unusable) else Exit.FAILED
    except Exception as bug:
        if isinstance(bug, OSError) and bug.errno in _REFUSALS:
            where = f"{bug.filename}: " if bug.filename else ""
            _tell(f"Error: {where}{bug.strerror}; {_REFUSALS[bug.errno]}", debug)
            return Exit.FAILED
        _tell(f"Error: this is a bug in gitserver ({type(bug).__name__}); --debug shows where", debug)
        return Exit.BUG
    return result if isinstance(result, int) else Exit.DONE


def _tell(sentence: str, debug: bool) -> None:
    if debug:
        traceback.print_exc()
    click.echo(sentence, err=True)
