"""The whole recipe on the embedded default: `run_recipe` with ``tiny-cpu``, and a table of what came of it."""

from pathlib import Path

from polaris_eval.scores import compare_scores, read_scores
from rich.console import Console
from rich.table import Table

from polaris_train.controller import request_of, run_recipe
from polaris_train.run_folder import RunFolder


def run_demo(out: Path) -> int:
    """Run or continue the recipe ``tiny-cpu`` and say what came of it; return the exit code.

    Args:
        out: Run folder.

    Raises:
        TrainError: As `run_recipe` does.
    """
    request = request_of("tiny-cpu", [], out)
    if code := run_recipe(request):
        return code
    _print_summary(request.folder)
    return 0


def _print_summary(folder: RunFolder) -> None:
    before, after = read_scores(folder.evaluation("start")), read_scores(folder.evaluation("final"))
    table = Table("", "mean@k", "95% interval", title="Problems that nothing was tuned on", title_justify="left")
    for each, found in zip(compare_scores(before, after), after.evaluations, strict=True):
        low, high = each.difference.interval
        table.add_row(f"{each.benchmark} before", f"{100 * each.before:.1f}", "")
        table.add_row(f"after, k = {found.score('mean@k').k}", f"{100 * each.after:.1f}", "")
        table.add_row("difference", f"{100 * each.difference.value:+.1f}", f"{100 * low:+.1f} to {100 * high:+.1f}")
    console = Console()
    console.print(table)
    console.print(f"report: {folder.report}\nreasons: polaris why {folder.path}", highlight=False, soft_wrap=True)
