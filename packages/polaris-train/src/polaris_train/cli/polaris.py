"""The ``polaris`` command: the whole recipe, and every package's command as a sub-command."""

from pathlib import Path
from typing import Annotated

import typer
from polaris_data.cli import app as data_app
from polaris_eval.cli import app as eval_app
from polaris_reward.cli import app as reward_app
from polaris_rollout.cli import app as rollout_app

from polaris_train.cli.ablate import ablate_command
from polaris_train.cli.controller import plan_command, run_command, status_command, why_command
from polaris_train.cli.launch import launch_command
from polaris_train.cli.main import app as train_app
from polaris_train.cli.main import run_app
from polaris_train.cli.report import compare, report

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="Make a small reasoning model a better one with reinforcement learning on verifiable mathematics.",
)
for name, package_app in (
    ("data", data_app),
    ("rollout", rollout_app),
    ("reward", reward_app),
    ("train", train_app),
    ("eval", eval_app),
):
    app.add_typer(package_app, name=name)
app.command()(report)
app.command()(compare)


app.command("plan")(plan_command)
app.command("run")(run_command)
app.command("status")(status_command)
app.command("why")(why_command)
app.command("ablate")(ablate_command)
app.command("launch")(launch_command)


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder for everything that the demo writes.")] = Path("demo"),
) -> None:
    """Show the whole recipe on a CPU in minutes, without any download.

    Runs the recipe tiny-cpu as 'polaris run' does: profiles synthetic problems with the embedded tiny model, drops
    what it always solves, finds the temperature, trains three GRPO stages of growing context, and evaluates before
    and after on other problems. A killed demo continues with the same command.

    Example:

        polaris demo --out demo
    """
    from polaris_train.demo import run_demo

    if code := run_demo(out):
        raise typer.Exit(code)


def main() -> None:
    """Run the command line."""
    run_app(app)


if __name__ == "__main__":
    main()
