"""A progress bar for sampling: groups done, tokens a second, time left."""

import logging
import time
from collections.abc import Iterable, Iterator

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from polaris_rollout.records import Group

logger = logging.getLogger(__name__)

LOG_EVERY_S = 15.0
"""Where the bar cannot be drawn (a log file), one line is logged at this interval."""


def track(groups: Iterable[Group], *, total: int, done: int = 0, label: str = "sampling") -> Iterator[Group]:
    """Pass groups through, showing progress on stderr.

    Args:
        groups: Groups as a sampler yields them.
        total: Groups of the whole job.
        done: Groups that an earlier run finished.
        label: Word in front of the bar.
    """
    console = Console(stderr=True)
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[speed]:,.0f} tokens/s"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(elapsed_when_finished=False),
        console=console,
        disable=not console.is_terminal,
    )
    started = last_log = time.monotonic()
    num_tokens = num_groups = 0
    with bar:
        task = bar.add_task(label, total=total, completed=done, speed=0.0)
        for group in groups:
            num_groups += 1
            num_tokens += sum(len(completion.token_ids) for completion in group.completions)
            now = time.monotonic()
            speed = num_tokens / max(now - started, 1e-9)
            bar.update(task, advance=1, speed=speed)
            if not console.is_terminal and now - last_log > LOG_EVERY_S:
                left = (now - started) / num_groups * (total - done - num_groups)
                logger.info("%s %d/%d  %.0f tokens/s  %.0f s left", label, done + num_groups, total, speed, left)
                last_log = now
            yield group
