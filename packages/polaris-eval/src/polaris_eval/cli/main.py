"""The ``polaris-eval`` command."""

import sys

import typer

from polaris_eval.cli.benchmarks import list_command
from polaris_eval.cli.compare import compare_command
from polaris_eval.cli.grade import grade_command
from polaris_eval.cli.report import report_command
from polaris_eval.cli.run import run_command
from polaris_eval.cli.table import table_command

app = typer.Typer(
    help="Measure a model on benchmarks: scores with intervals that others can reproduce.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)

app.command("list")(list_command)
app.command("compare")(compare_command)
app.command("table")(table_command)
app.command("grade")(grade_command)
app.command("report")(report_command)
app.command("run")(run_command)


@app.callback()
def _commands() -> None:  # pyright: ignore[reportUnusedFunction]
    """Keep the commands named when there are few."""


def main() -> None:
    """Run the command line."""
    from polaris_data import DataError
    from polaris_reward import RewardError
    from polaris_rollout import RolloutError

    from polaris_eval.errors import EvalError

    try:
        app()
    except (EvalError, DataError, RolloutError, RewardError) as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
