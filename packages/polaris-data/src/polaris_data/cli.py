"""The ``polaris-data`` command."""

import logging
import sys

import typer

from polaris_data.check_cli import check_command
from polaris_data.decontaminate_cli import decontaminate_command
from polaris_data.dedup_cli import dedup_command
from polaris_data.errors import DataError
from polaris_data.export_cli import export_command
from polaris_data.import_cli import import_command
from polaris_data.profile_cli import profile_command
from polaris_data.select_cli import select_command
from polaris_data.show_cli import show_command
from polaris_data.synthetic_cli import synthetic_command
from polaris_data.why_cli import why_command

app = typer.Typer(
    name="polaris-data",
    help="Problems: how hard they are for a model, and which of them it can still learn from.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


@app.callback()
def _start() -> None:
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    for package in ("polaris_data", "polaris_rollout"):
        logging.getLogger(package).setLevel(logging.INFO)


app.command("import")(import_command)
app.command("export")(export_command)
app.command("check")(check_command)
app.command("dedup")(dedup_command)
app.command("decontaminate")(decontaminate_command)
app.command("profile")(profile_command)
app.command("select")(select_command)
app.command("show")(show_command)
app.command("why")(why_command)
app.command("synthetic")(synthetic_command)


def main() -> None:
    """Run the command line."""
    try:
        app()
    except _user_errors() as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None


def _user_errors() -> tuple[type[Exception], ...]:
    """Return what a user can get wrong here and in the packages that the command has loaded."""
    bases = {"polaris_rollout.errors": "RolloutError", "polaris_reward.errors": "RewardError"}
    loaded = [getattr(sys.modules[module], name) for module, name in bases.items() if module in sys.modules]
    return (DataError, *loaded)
