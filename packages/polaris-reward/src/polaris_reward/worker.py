"""The child process that does the algebra: one line of JSON in, lines of JSON out.

Run as ``python -m polaris_reward.worker DEADLINE_S MEMORY_GIB``. It loads the algebra once and then forks, so that
a worker that was killed is replaced within milliseconds: the keeper waits, its child serves, and says

- ``{"ready": true}`` when it begins, which is also the news that the one before it has ended;
- ``{"taken": true}`` when it has read a request ``{"answer": "...", "references": ["...", ...]}``;
- ``{"outcome": "...", "reference": index or null}`` when it is done.

Whatever goes wrong in here becomes an outcome. The deadline is the parent's: SIGUSR1 makes the keeper kill its child.
A timer of the kernel ends the child should the parent be gone.
"""

import json
import logging
import os
import resource
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

from polaris_reward.records import Outcome

ORPHAN_GRACE_S = 2.0
"""A child that nobody stopped at its deadline ends itself this much later."""

SPENT_SHARE = 0.5
"""A child that holds more than this share of its memory ceiling after an item makes way for a fresh one."""

# Which verdict stands when references disagree: an unreadable one must not pass for a wrong answer.
_PRECEDENCE = (Outcome.CORRECT, Outcome.REFERENCE_REJECTED, Outcome.ANSWER_REJECTED, Outcome.INCORRECT)

Compare = Callable[[str, str], Outcome]


def main(deadline_s: float, memory_gib: float) -> None:
    """Answer requests on standard input until it ends."""
    memory_bytes = int(memory_gib * 2**30)
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    replies = _claim_stdout()
    # math-verify warns that its time-outs are off.
    logging.disable(logging.CRITICAL)
    compare = _load_compare()
    _silence()
    _keep(lambda: _serve(replies, compare, deadline_s=deadline_s, memory_bytes=memory_bytes))


def _keep(serve: Callable[[], None]) -> None:
    """Fork a child that serves, and another one whenever it was killed, until one comes to the end of input."""
    child = 0

    def kill_child(*_: object) -> None:
        if child:
            os.kill(child, signal.SIGKILL)

    signal.signal(signal.SIGUSR1, kill_child)
    status = 1
    while status != 0:
        child = os.fork()
        if child == 0:
            serve()
            os._exit(0)
        _, status = os.waitpid(child, 0)


def _serve(replies: TextIO, compare: Compare, *, deadline_s: float, memory_bytes: int) -> None:
    _say(replies, {"ready": True})
    for line in sys.stdin:
        _say(replies, {"taken": True})
        # The default action of SIGALRM ends the process even while C code holds the interpreter.
        signal.setitimer(signal.ITIMER_REAL, deadline_s + ORPHAN_GRACE_S)
        request = json.loads(line)
        outcome, index = judge(request["answer"], request["references"], compare)
        signal.setitimer(signal.ITIMER_REAL, 0)
        _say(replies, {"outcome": outcome, "reference": index})
        if _address_space_bytes() > SPENT_SHARE * memory_bytes:
            os._exit(1)


def judge(answer: str, references: list[str], compare: Compare) -> tuple[Outcome, int | None]:
    """Compare an answer with each reference until one is equal.

    Returns:
        The verdict, and the index of the reference that the answer equals.
    """
    outcomes: list[Outcome] = []
    for index, reference in enumerate(references):
        outcomes.append(_guarded(compare, answer, reference))
        if outcomes[-1] is Outcome.CORRECT:
            return Outcome.CORRECT, index
    return min(outcomes, key=_PRECEDENCE.index), None


def _guarded(compare: Compare, answer: str, reference: str) -> Outcome:
    try:
        return compare(answer, reference)
    except (MemoryError, RecursionError, OverflowError):
        return Outcome.ANSWER_REJECTED
    # The process boundary: math-verify and sympy raise anything where two values merely differ in kind.
    except Exception:  # noqa: BLE001
        return Outcome.INCORRECT


def _load_compare() -> Compare:
    """Import the algebra and use it once, so that the first item does not pay for building its parser."""
    from polaris_reward.symbolic import compare_symbolically

    compare_symbolically(r"\frac{\sqrt{3}}{2}", r"\sqrt{3/4}")
    return compare_symbolically


def _claim_stdout() -> TextIO:
    """Keep standard output for replies; what libraries print goes to standard error."""
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return replies


def _silence() -> None:
    """Drop what libraries print about model output; until here, standard error tells why a start failed."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.dup2(null, 2)
    os.close(null)


def _say(replies: TextIO, message: dict[str, Any]) -> None:
    try:
        replies.write(json.dumps(message) + "\n")
        replies.flush()
    except BrokenPipeError:
        # Nobody listens any more.
        os._exit(0)


def _address_space_bytes() -> int:
    statm = Path("/proc/self/statm")
    if not statm.exists():
        return 0
    return int(statm.read_text(encoding="ascii").split()[0]) * resource.getpagesize()


if __name__ == "__main__":
    main(float(sys.argv[1]), float(sys.argv[2]))
