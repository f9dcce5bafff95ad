"""Simulate a step on 1 to 64 engines: makespan / ideal of a static split, a shared counter, and longest first.

Run as ``python tests/bench/balance.py``. The first table is the workload of the package's documentation; the second
says at 8 engines where longest first helps and where it cannot: when lengths differ within problems more than
between them, and when the slots are about as many as would finish the step with the longest answer.
"""

import argparse
import time
from pathlib import Path

from polaris_rollout.sharing.simulate import Workload, print_simulation, simulate
from rich.console import Console
from rich.table import Table

NUM_ENGINES = 8
SLOTS = (8, 16, 20, 24, 32, 64)
BETWEEN_SHARES = (0.3, 0.5, 0.7, 0.75, 0.8, 0.9)


def main() -> None:
    """Print both tables and how long the simulation took."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=100)
    parser.add_argument("--plot", type=Path, help="PNG file of the first table")
    arguments = parser.parse_args()
    started = time.perf_counter()
    print_simulation(Workload(), num_seeds=arguments.seeds, plot=arguments.plot)
    print(f"{time.perf_counter() - started:.1f} s")
    started = time.perf_counter()
    simulate(Workload(num_problems=1024), num_engines=(64,), num_seeds=arguments.seeds)
    print(f"1,024 problems on 64 engines, {arguments.seeds} draws: {time.perf_counter() - started:.1f} s")
    Console().print(sensitivity(arguments.seeds))


def sensitivity(num_seeds: int) -> Table:
    """Compare slots and shares of the variance between problems."""
    table = Table(title=f"{NUM_ENGINES} engines, static split -> longest first; * where at most 1.10 from above 1.4")
    table.add_column("between problems", justify="right")
    for slots in SLOTS:
        table.add_column(f"{slots} slots", justify="right")
    for share in BETWEEN_SHARES:
        cells: list[str] = []
        for slots in SLOTS:
            workload = Workload(slots=slots, between_share=share)
            (balance,) = simulate(workload, num_engines=(NUM_ENGINES,), num_seeds=num_seeds)
            static = balance.ratios["static split"].mean()
            longest_first = balance.ratios["longest first"].mean()
            star = "*" if longest_first <= 1.10 and static > 1.4 else ""
            cells.append(f"{static:.2f} -> {longest_first:.2f}{star}")
        table.add_row(f"{share:.0%}", *cells)
    return table


if __name__ == "__main__":
    main()
