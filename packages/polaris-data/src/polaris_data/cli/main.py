"""The ``polaris-data`` command."""

import logging
import sys
from importlib.util import find_spec

import typer

from polaris_data.cli.duplicates import decontaminate_command, dedup_command, split_command
from polaris_data.cli.problems import check_command, export_command, import_command, synthetic_command
from polaris_data.cli.selection import select_command, show_command, why_command
from polaris_data.errors import DataError, MissingExtraError

app = typer.Typer(
    name="polaris-data",
    help="Problems: how hard they are for a model, and which of them it can still learn from.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
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
app.command("split")(split_command)
if find_spec("polaris_rollout"):
    from polaris_data.cli.profile import profile_command
    from polaris_data.cli.traces import traces_command

    app.command("profile")(profile_command)
    app.command("traces")(traces_command)
else:

    @app.command("profile", context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
    def _profile() -> None:  # pyright: ignore[reportUnusedFunction]
        """Measure how often a model solves each problem; needs polaris-reward and polaris-rollout."""
        raise MissingExtraError(
            "profiling needs polaris-reward and polaris-rollout: pip install 'polaris-data[profile]>=2026.11'"
        )

    @app.command("traces", context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
    def _traces() -> None:  # pyright: ignore[reportUnusedFunction]
        """Write correct answers as traces for fine-tuning; needs polaris-reward and polaris-rollout."""
        raise MissingExtraError(
            "traces need polaris-reward and polaris-rollout: pip install 'polaris-data[profile]>=2026.11'"
        )


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
