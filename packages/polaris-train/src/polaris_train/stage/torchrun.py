"""torchrun, but its exit code is that of the rank that failed first, and that rank's message stands alone."""

import logging
import sys

from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.elastic.rendezvous import RendezvousError
from torch.distributed.run import parse_args, run


def main() -> None:
    """Run with the arguments of torchrun."""
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)
    arguments = parse_args(sys.argv[1:])
    try:
        run(arguments)
    except ChildFailedError as error:
        _, failure = error.get_first_failure()
        raise SystemExit(failure.exitcode if failure.exitcode > 0 else 1) from None
    except RendezvousError as error:
        logging.basicConfig(format="%(message)s", stream=sys.stderr)
        logging.getLogger(__name__).error(
            "error: the %s nodes have not all met at %s, or have lost each other (%s); see what each of them printed, "
            "and give the same command on every node again",
            arguments.nnodes,
            arguments.rdzv_endpoint,
            error or type(error).__name__,
        )
        raise SystemExit(2) from None


if __name__ == "__main__":
    main()
