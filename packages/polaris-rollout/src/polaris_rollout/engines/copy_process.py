"""One of several engines side by side: the process that `polaris_rollout.engines.copies` starts for it."""

import logging
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any, cast

from polaris_rollout.contracts import Engine, EngineSpec
from polaris_rollout.engines.opening import open_engine
from polaris_rollout.errors import RolloutError
from polaris_rollout.records import Prompt

STATUS_EVERY_S = 1.0
"""Between two messages that say what the engine is doing."""


def serve() -> None:
    """Run one engine for the process that started this one, until that one has gone."""
    connection = Connection(int(sys.argv[1]))
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    sending = threading.Lock()

    def send(meaning: str, value: Any = None) -> None:
        with sending:
            connection.send((meaning, value))

    try:
        from polaris_rollout.engines.vllm import require_devices

        _, spec = cast(tuple[str, EngineSpec], connection.recv())
        require_devices(spec.tensor_parallel)
        with open_engine(spec) as engine:
            send("open", (engine.context, engine.weights_version))
            threading.Thread(target=_tell, args=(engine, send), daemon=True).start()
            while True:
                _obey(engine, connection, send)
    except (EOFError, BrokenPipeError, ConnectionResetError):  # The other process has gone.
        os._exit(0)
    except RolloutError as error:
        with suppress(OSError):
            send("error", error)
        os._exit(2)


def _obey(engine: Engine, connection: Connection, send: Any) -> None:
    """Do what the next message asks for."""
    meaning, value = cast(tuple[str, Any], connection.recv())
    if meaning == "check":
        prompts, max_tokens = value
        try:
            engine.check_prompts(prompts, max_tokens)
        except RolloutError as error:
            send("error", error)
        else:
            send("checked")
        return
    params, n = value

    def wanted() -> Iterator[Prompt]:
        while True:
            send("next")
            _, prompt = cast(tuple[str, Prompt | None], connection.recv())
            if prompt is None:
                return
            yield prompt

    for group in engine.sample(wanted(), params, n=n):
        send("group", group)
    send("done")


def _tell(engine: Engine, send: Any) -> None:
    """Say again and again what the engine is doing; end the process when nobody is there to hear it."""
    pause = threading.Event()
    while not pause.wait(STATUS_EVERY_S):
        try:
            send("status", engine.status())
        except OSError:
            os._exit(0)
