"""torchrun, but it says why ranks start again, and starts none again whose input is wrong.

Its exit code is that of the rank that failed first, and that rank's message stands alone.
"""

import logging
import os
import secrets
import sys
from typing import Any, cast

from polaris_rollout.engines import STALL_EXIT_CODE, openmp_environment
from torch.distributed.distributed_c10d import Store
from torch.distributed.elastic.agent.server.api import RunResult, WorkerGroup
from torch.distributed.elastic.agent.server.local_elastic_agent import LocalElasticAgent
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure
from torch.distributed.elastic.rendezvous import RendezvousError
from torch.distributed.launcher import api
from torch.distributed.run import parse_args, run

from polaris_train.stage.launch import BAD_INPUT, ROUND, restart_message, shell_code

logger = logging.getLogger(__name__)


class Agent(LocalElasticAgent):
    """Starts the ranks of a node again, all of them, when one has crashed or stalled."""

    def _rendezvous(self, worker_group: WorkerGroup) -> None:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Meet the other nodes, and name the round, for torch keeps the ranks' store with what earlier ones wrote."""
        cast(Any, super())._rendezvous(worker_group)
        store = cast(Store, worker_group.store)  # of the agents, for this round only
        if cast(int, worker_group.group_rank) == 0:
            store.set("name", secrets.token_hex(8))
        os.environ[ROUND] = store.get("name").decode()

    def _monitor_workers(self, worker_group: WorkerGroup) -> RunResult:  # pyright: ignore[reportIncompatibleVariableOverride]
        result: RunResult = cast(Any, super())._monitor_workers(worker_group)
        if not result.failures:
            return result
        if any(failure.exitcode == BAD_INPUT for failure in result.failures.values()):
            self._remaining_restarts = 0  # The same input would be as wrong.
        elif self._remaining_restarts:
            rank, failure = _cause(result.failures)
            most = worker_group.spec.max_restarts
            number = most - self._remaining_restarts + 1
            logger.warning("%s", restart_message(f"rank {rank}", failure.exitcode, number=number, most=most))
        return result


def main() -> None:
    """Run with the arguments of torchrun."""
    logging.basicConfig(format="%(message)s", stream=sys.stderr)
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)
    arguments = parse_args(sys.argv[1:])
    os.environ.update(openmp_environment(int(arguments.nproc_per_node)))
    cast(Any, api).LocalElasticAgent = Agent  # torchrun makes it by this name, and takes no other.
    try:
        run(arguments)
    except ChildFailedError as error:
        _, failure = _cause(error.failures)
        raise SystemExit(shell_code(failure.exitcode)) from None
    except RendezvousError as error:
        logger.error(
            "error: the %s nodes have not all met at %s, or have lost each other (%s); see what each of them printed, "
            "and give the same command on every node again",
            arguments.nnodes,
            arguments.rdzv_endpoint,
            error or type(error).__name__,
        )
        raise SystemExit(BAD_INPUT) from None


def _cause(failures: dict[int, ProcessFailure]) -> tuple[int, ProcessFailure]:
    """Return the rank that failed first; where one says what is the matter, others break off at the same moment."""
    said = BAD_INPUT, STALL_EXIT_CODE
    return min(failures.items(), key=lambda each: (each[1].exitcode not in said, each[1].timestamp))


if __name__ == "__main__":
    main()
