"""A progress bar with the time left, on stderr, for what turns out to take long."""

import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

SHOW_AFTER_S = 2.0
"""What is done sooner shows no bar."""

REFRESH_S = 0.2

T = TypeVar("T")


def track(items: Iterable[T], *, total: int | None, label: str) -> Iterator[T]:
    """Pass items through, and show how many there were and the time left; nothing where stderr is no terminal.

    Args:
        items: Anything that is worked on while it is iterated over.
        total: How many there will be; ``None`` if nobody knows.
        label: Words in front of the bar.
    """
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn())
    bar = Progress(
        *columns,
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        auto_refresh=False,
        redirect_stdout=False,
        disable=not console.is_terminal,
    )
    task = bar.add_task(label, total=total)
    next_show = time.monotonic() + SHOW_AFTER_S
    is_shown = False
    try:
        for number, item in enumerate(items):
            if (now := time.monotonic()) >= next_show:
                next_show = now + REFRESH_S
                if not is_shown:
                    bar.start()
                    is_shown = True
                bar.update(task, completed=number, refresh=True)
            yield item
    finally:
        if is_shown:
            bar.stop()
