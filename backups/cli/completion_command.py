"""`backups completion`."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class


@click.command(epilog='Example: eval "$(backups completion bash)"')
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def command(shell: str) -> None:
    """Print the completion script of SHELL, to be evaluated by its start-up file."""
    from backups.cli import cli

    completion = get_completion_class(shell)
    assert completion is not None  # noqa: S101  click ships all three
    click.echo(completion(cli, {}, "backups", "_BACKUPS_COMPLETE").source())
