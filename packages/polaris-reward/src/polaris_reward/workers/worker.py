"""The processes that do the algebra: a keeper that loads it once, and its children, which serve.

Run as ``python -m polaris_reward.workers.worker DEADLINE_S MEMORY_GIB`` with a Unix socket as standard input. The
keeper says that it is ready. Then it reads requests: the number of a worker, with the end of a socket. It kills the
worker that had this number and forks one that serves the socket, which takes milliseconds and shares the loaded
algebra.

A worker reads lines ``{"answer": "...", "references": ["...", ...]}`` and writes a line for each, ``{"outcome": "...",
"reference": index or null, "last": whether it ends now}``, or ``{"error": "...", "last": true}`` if no worker could be
forked. Whatever else goes wrong in here becomes an outcome. The deadline is the parent's, who has a late worker
replaced. When the parent is gone, the keeper kills its workers; should the keeper be gone, too, a timer of the kernel
ends them.
"""

import inspect
import json
import logging
import os
import resource
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from polaris_reward.records import Outcome, outcome_that_stands

READY = b"ready"

_NUMBER_BYTES = 4

ORPHAN_GRACE_S = 2.0
"""A worker that nobody stopped at its deadline ends itself this much later."""

SPENT_SHARE = 0.5
"""A worker that holds more than this share of its memory ceiling after an item makes way for a fresh one."""

_CODE_MAKERS = frozenset(
    {"importlib._bootstrap", "importlib._bootstrap_external", "collections", "dataclasses", "sympy.polys.monomials"}
    | {"typing"}
)
"""Modules that make code from templates of their own."""

Compare = Callable[[str, str], Outcome]


def load_symbolic() -> Compare:
    """Import the algebra and use it once, so that the first item does not pay for building its parser."""
    from polaris_reward.workers.symbolic import compare_symbolically

    compare_symbolically(r"\frac{\sqrt{3}}{2}", r"\sqrt{3/4}")
    return compare_symbolically


def main(deadline_s: float, memory_gib: float, *, load: Callable[[], Compare] = load_symbolic) -> None:
    """Fork workers that compare, for whoever holds the other end of standard input, until it is closed."""
    memory_bytes = int(memory_gib * 2**30)
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # What libraries print while they load belongs with the errors.
    os.dup2(2, 1)
    # math-verify warns that its time-outs are off.
    logging.disable(logging.CRITICAL)
    compare = load()
    with socket.socket(fileno=0) as requests:
        requests.sendall(READY)
        _keep(requests, lambda connection: _serve(connection, compare, deadline_s, memory_bytes))


def to_message(number: int) -> bytes:
    """Return the number of a worker as it is sent to a keeper."""
    return number.to_bytes(_NUMBER_BYTES)


def _keep(requests: socket.socket, serve: Callable[[socket.socket], None]) -> None:
    workers: dict[int, int] = {}
    try:
        while True:
            request, descriptors, _, _ = socket.recv_fds(requests, _NUMBER_BYTES, 1)
            if not request:
                return
            number = int.from_bytes(request)
            if number in workers:
                _end(workers.pop(number))
            with socket.socket(fileno=descriptors[0]) as connection:
                try:
                    pid = os.fork()
                except OSError as error:
                    _say(connection, {"error": str(error), "last": True})
                    continue
                if pid == 0:
                    _become_worker(requests, connection, serve)
                workers[number] = pid
    finally:
        for pid in workers.values():
            _end(pid)


def _end(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def _become_worker(
    requests: socket.socket, connection: socket.socket, serve: Callable[[socket.socket], None]
) -> NoReturn:
    try:
        requests.close()
        _silence()
        sys.addaudithook(refuse_evaluation)
        serve(connection)
    finally:
        # Never back into the keeper's code, whatever happened; the parent sees that the connection has ended.
        os._exit(0)


def _serve(connection: socket.socket, compare: Compare, deadline_s: float, memory_bytes: int) -> None:
    with connection.makefile(encoding="utf-8") as lines:
        for line in lines:
            # The default action of SIGALRM ends the process even while C code holds the interpreter.
            signal.setitimer(signal.ITIMER_REAL, deadline_s + ORPHAN_GRACE_S)
            request = json.loads(line)
            outcome, index = judge(request["answer"], request["references"], compare)
            signal.setitimer(signal.ITIMER_REAL, 0)
            is_last = _address_space_bytes() > SPENT_SHARE * memory_bytes
            _say(connection, {"outcome": outcome, "reference": index, "last": is_last})
            if is_last:
                return


def _say(connection: socket.socket, reply: dict[str, Any]) -> None:
    connection.sendall(json.dumps(reply).encode() + b"\n")


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
    return outcome_that_stands(outcomes), None


def _guarded(compare: Compare, answer: str, reference: str) -> Outcome:
    try:
        return compare(answer, reference)
    except (MemoryError, RecursionError, OverflowError):
        return Outcome.ANSWER_REJECTED
    # The process boundary: math-verify and sympy raise anything where two values merely differ in kind.
    except Exception:  # noqa: BLE001
        return Outcome.INCORRECT


def refuse_evaluation(event: str, _: object) -> None:
    """Refuse to compile or run code that was made at run time: a hook for `sys.addaudithook`, which stays for good.

    Raises:
        PermissionError: Unless the code is a module that is being imported, or comes from a generator of classes.
    """
    if event not in {"compile", "exec"}:
        return
    hook = inspect.currentframe()
    caller = hook.f_back if hook else None
    if caller is None or caller.f_globals.get("__name__") not in _CODE_MAKERS:
        raise PermissionError(f"{event} of text is not allowed here")


def _silence() -> None:
    """Drop what libraries print about model output; the keeper's standard error tells why a start failed."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.dup2(null, 2)
    os.close(null)


def _address_space_bytes() -> int:
    statm = Path("/proc/self/statm")
    if not statm.exists():
        return 0
    return int(statm.read_text(encoding="ascii").split()[0]) * resource.getpagesize()


if __name__ == "__main__":
    main(float(sys.argv[1]), float(sys.argv[2]))
    # Taking all the algebra down in good order would keep the parent's `close` waiting.
    os._exit(0)
