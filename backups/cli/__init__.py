"""The command line: one file per command, imported when it is called."""

from __future__ import annotations

import importlib
import resource
import signal
import sys
from types import FrameType

import click

from backups import __version__
from backups.errors import BackupsError, Cancelled, VerificationFailed

COMMANDS = {
    "init": "Make a home: settings, signing key, restore identity, catalog.",
    "apply": "Declare plans, customers, stores and databases from YAML.",
    "store": "A customer's stores: examine them, print the rights that they need.",
    "key": "The keys that backups are encrypted to: prove that they open.",
    "status": "The fleet at a glance.",
    "run": "Back up a database now.",
    "serve": "Take every database's backup each day, by itself.",
    "worker": "Do what `serve` decided, on one more machine.",
    "queue": "What waits for workers, and what they are at.",
    "due": "What is due, and when each database's next backup starts.",
    "alarms": "What is not as promised.",
    "incident": "The SLA's clock: what went wrong, and its post-mortem.",
    "notify": "Whom alarms and events are sent to, and what became of them.",
    "metrics": "What Prometheus may collect.",
    "list": "Backups, newest first.",
    "show": "A backup in words: what is in it, and how stock tools recover it.",
    "check": "Read every byte of a backup and authenticate it, without restoring.",
    "verify": "Restore tests: restored into scratch, compared, examined, destroyed.",
    "report": "The monthly report for auditors: build, publish, list, check.",
    "copy": "Copy a backup into the further stores that its policy names.",
    "scrub": "Compare customers' stores with the manifests in them; remove orphans.",
    "prune": "Delete backups whose time is over, each for a reason.",
    "hold": "Keep a backup whatever retention says: add, remove, list.",
    "offboard": "A customer leaves: last backups, hand-over, stop.",
    "erase": "Delete every backup of a customer who asked for it.",
    "restore": "Write a backup into a new database, compared with its fingerprint.",
    "replace": "Put a backup in the place of the live database: plan, approve, start, undo.",
    "recover": "Restore with a store, an identity and a verify key alone.",
    "api": "The HTTP API for dashboards, and the pages.",
    "doctor": "Look at this machine and its home.",
    "audit": "Who did what, and proof that nobody rewrote it.",
    "catalog": "The catalog: rebuild it from a store.",
    "completion": "Print the shell's completion script.",
}
"""Name to one line of help, so that `--help` imports no command. The module is
`backups.cli.<name>_command`, its click command `command`."""


class Commands(click.Group):
    """A group that imports a command's module only when that command is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """In the order of a first day's work."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Raises nothing: an unknown name is click's to report."""
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"backups.cli.{cmd_name}_command")
        command: click.Command = module.command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The table above, without importing anything."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 96},
    epilog="Exit codes: 0 done, 1 failed, 2 usage, and one per kind of error: see "
    "backups/cli/README.md.",
)
@click.version_option(__version__, prog_name="backups")
@click.option(
    "--home",
    envvar="BACKUPS_HOME",
    type=click.Path(file_okay=False),
    help="Where settings, keys and catalog live (or BACKUPS_HOME).",
)
@click.pass_context
def cli(ctx: click.Context, home: str | None) -> None:
    """Encrypted daily database backups in the customer's own bucket, and back."""
    ctx.obj = home


def main() -> None:
    """Entry point: runs a command and turns every outcome into words and an exit code."""
    signal.signal(signal.SIGTERM, _terminate)
    # A core would hold keys and rows; whatever we start inherits this.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    sys.exit(run(sys.argv[1:]))


def run(argv: list[str]) -> int:
    """Exit code of one call; every error that is expected is said in words."""
    try:
        cli.main(argv, prog_name="backups", standalone_mode=False)
    except click.exceptions.Exit as done:
        return done.exit_code
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        return _report(Cancelled("stopped by the keyboard"))
    except (BackupsError, OSError) as error:
        return _report(error if isinstance(error, BackupsError) else _refused(error))
    return 0


def _refused(error: OSError) -> BackupsError:
    """A full disk, a folder without rights, a reader of our output that went away."""
    where = f" ({error.filename})" if error.filename else ""
    return BackupsError(
        f"the system refused: {error.strerror or type(error).__name__}{where}",
        hint="Look at the disk's free space and the folder's rights, then try again.",
    )


def _report(error: BackupsError) -> int:
    click.echo(f"error: {error}", err=True)
    if isinstance(error, VerificationFailed) and error.texts:
        click.echo(error.texts, err=True)
    if error.hint:
        click.echo(f"  what next: {error.hint}", err=True)
    return error.exit_code


def _terminate(_signal: int, _frame: FrameType | None) -> None:
    raise Cancelled("stopped by SIGTERM")
