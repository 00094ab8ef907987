"""``gitserver completion``: the shell completion script."""

import click
from click.shell_completion import get_completion_class

from gitserver.cli.options import debug_option


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@debug_option
def completion(shell: str) -> None:
    """Print the completion script for SHELL.

    For bash: `gitserver completion bash >> ~/.bashrc`. For zsh: `gitserver completion zsh >> ~/.zshrc`. For fish:
    `gitserver completion fish > ~/.config/fish/completions/gitserver.fish`.
    """
    from gitserver.cli.main import gitserver  # the entry point imports this file

    kind = get_completion_class(shell)
    if kind is None:
        raise click.UsageError(f"there is no completion for {shell}")
    click.echo(kind(gitserver, {}, "gitserver", "_GITSERVER_COMPLETE").source())
