"""Working on what was sampled while the engine samples on."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from polaris_rollout.records import Group

Result = TypeVar("Result")


def alongside(groups: Iterable[Group], handle: Callable[[Sequence[Group]], Iterable[Result]]) -> Iterator[Result]:
    """Yield what a function makes of finished groups, in the order in which they finished.

    The function runs in one other thread, so that the engine, which works only while its groups are asked for, is not
    kept waiting. It is given all the groups that finished while it was busy; what it raises is raised here.

    Args:
        groups: As `Sampler.sample` yields them.
        handle: Grades groups, say, and keeps them.
    """
    finished: deque[Group] = deque()

    def handle_finished() -> list[Result]:
        batch = [finished.popleft() for _ in range(len(finished))]
        return list(handle(batch)) if batch else []

    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="alongside") as pool:
        pending: deque[Future[list[Result]]] = deque()
        for group in groups:
            finished.append(group)
            pending.append(pool.submit(handle_finished))
            while pending and pending[0].done():
                yield from pending.popleft().result()
        for each in pending:
            yield from each.result()
