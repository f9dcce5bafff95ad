"""Work spread over processes: results in the order of the work, a bounded number of pieces under way."""

import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from itertools import islice
from multiprocessing import get_context, parent_process
from typing import Any, TypeVar

T = TypeVar("T")
R = TypeVar("R")

MAX_WAITING_PER_PROCESS = 3
"""Pieces handed out and not taken back yet: enough to keep a process busy, few enough to bound memory."""


def num_usable_processors() -> int:
    """Return how many processors this process may run on."""
    return len(os.sched_getaffinity(0))


def map_in_order(
    function: Callable[[T], R],
    pieces: Iterable[T],
    *,
    num_processes: int,
    start: Callable[..., None] | None = None,
    start_arguments: tuple[Any, ...] = (),
) -> Iterator[R]:
    """Yield ``function(piece)`` for each piece, in their order.

    Args:
        function: Of a module, so that other processes can import it.
        pieces: Work; taken from here as results are taken from the other side.
        num_processes: 1 does the work in this process. More need the ``if __name__ == "__main__"`` guard in a script.
        start: Called once in each process before its first piece.
        start_arguments: What ``start`` is called with.
    """
    if num_processes == 1:
        if start:
            start(*start_arguments)
        yield from map(function, pieces)
        return
    with ProcessPoolExecutor(
        num_processes, get_context("spawn"), initializer=_start_process, initargs=(start, start_arguments)
    ) as pool:
        waiting: deque[Future[R]] = deque()
        try:
            for piece in pieces:
                waiting.append(pool.submit(function, piece))
                if len(waiting) >= MAX_WAITING_PER_PROCESS * num_processes:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def in_pieces(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Yield lists of ``size`` items; the last one may be shorter."""
    iterator = iter(items)
    while piece := list(islice(iterator, size)):
        yield piece


def _start_process(start: Callable[..., None] | None, arguments: tuple[Any, ...]) -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if start:
        start(*arguments)


def _end_with_parent() -> None:
    """End this process when its parent does, a parent that was killed included: the pool would wait for ever."""
    if parent := parent_process():
        parent.join()
        os._exit(1)
