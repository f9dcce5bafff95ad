"""Ending a process that has stalled: a stalled job that holds its devices costs more than a new start.

What is printed says where to look: what was waited for, every engine in a line, then the stack of every thread.
"""

import faulthandler
import os
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import NoReturn

from polaris_rollout.contracts import Engine, EngineStatus
from polaris_rollout.errors import SettingError

STALL_EXIT_CODE = 75
"""Of a process that the watchdog ended: "try again later" among the codes of sysexits.h."""

POLL_S = 5.0
"""Time between two looks at what is watched, at most."""

_STDERR = 2  # Python's own stream may be locked by the thread that hangs.


@contextmanager
def watch(engine: Engine, *, stall_limit_s: float = 1800.0, label: str = "sampling") -> Generator[None]:
    """End this process if no engine samples a token for too long while the block runs; see `end_when_stalled`.

    Progress is a token more in `Engine.status`, finished completions included; what was written to a store before is
    kept.

    Args:
        engine: The engine that the block samples with.
        stall_limit_s: Longest time without a token, in seconds.
        label: What is being done, for the message.

    Raises:
        SettingError: If the limit is not positive.
    """

    def tell() -> str:
        lines = [
            f"{label}: no engine sampled a token for {stall_limit_s:g} s; the process ends with exit code "
            f"{STALL_EXIT_CODE}, and the same command continues with all that was finished",
            *(f"  {describe_status(status)}" for status in engine.status()),
        ]
        return "".join(f"{line}\n" for line in lines)

    def look() -> int:
        return sum(status.sampled_tokens for status in engine.status())

    with end_when_stalled(look, tell, stall_limit_s=stall_limit_s):
        yield


@contextmanager
def end_when_stalled(look: Callable[[], object], tell: Callable[[], str], *, stall_limit_s: float) -> Generator[None]:
    """End this process if what is looked at stays the same for too long while the block runs.

    The process ends with ``STALL_EXIT_CODE`` even if the main thread hangs. If Python itself cannot run any more,
    because a thread hangs with the interpreter's lock or inside ``look``, `faulthandler` prints the stacks after
    another limit and ends the process with code 1. One such block at a time.

    Args:
        look: Called in another thread every `period_s`; changes as long as there is progress. ``None``: stalled, as
            somebody else found.
        tell: Returns what is printed before the stacks.
        stall_limit_s: Longest time without progress, in seconds.

    Raises:
        SettingError: If the limit is not positive.
    """
    if not stall_limit_s > 0:
        raise SettingError(f"the stall limit is {stall_limit_s!r} s; give a positive number of seconds")
    done = threading.Event()
    thread = threading.Thread(target=_watch, args=(look, tell, stall_limit_s, done), name="watchdog", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join(POLL_S)
        faulthandler.cancel_dump_traceback_later()


def period_s(stall_limit_s: float) -> float:
    """Return the time between two looks."""
    return min(POLL_S, stall_limit_s / 4)


def describe_status(status: EngineStatus) -> str:
    """Say in one line what an engine is doing."""
    longest = "unknown" if status.longest_running is None else f"{status.longest_running:,} tokens"
    return (
        f"{status.name}: {status.state}, {status.running} running, {status.waiting} waiting, "
        f"longest running answer {longest}, {status.sampled_tokens:,} tokens sampled"
    )


def _watch(look: Callable[[], object], tell: Callable[[], str], stall_limit_s: float, done: threading.Event) -> None:
    period = period_s(stall_limit_s)
    seen: object = None
    stalled_s = 0.0
    try:
        while not done.is_set():
            faulthandler.dump_traceback_later(2 * stall_limit_s, exit=True, file=_STDERR)
            before, seen = seen, look()
            # Looks are counted, not the clock: a process that was suspended for an hour has not stalled.
            stalled_s = stalled_s + period if seen == before else 0.0
            if seen is None or stalled_s >= stall_limit_s:
                _end(tell())
            done.wait(period)
    finally:
        faulthandler.cancel_dump_traceback_later()


def _end(text: str) -> NoReturn:
    # A progress bar hides the cursor.
    os.write(_STDERR, ("\x1b[?25h" * os.isatty(_STDERR) + text).encode())
    faulthandler.dump_traceback(file=_STDERR, all_threads=True)
    os._exit(STALL_EXIT_CODE)
