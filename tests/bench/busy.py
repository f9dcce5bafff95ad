"""How much longer a step of the demo takes with four busy processes beside it, at most 3 times as long.

Run as ``python tests/bench/busy.py`` on two quiet cores: a stage of ``tiny-cpu`` is trained twice in folders of its
own, first alone and then while four Python loops keep the cores busy, and the medians of its steps are compared, the
first of each left out. Two threads among six then get a third of the time that they had alone, so 3 is what is left
when none of them is waited for longer than it must; a single thread (``--threads 1``) gets two fifths. Both runs must
learn the same. Ends with exit code 1 where a step takes too long.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

LOOP_S = 1800
"""After which a loop ends whatever happens."""

OVERRIDES = {"stages.0.temperature": 1.0, "evaluate_every": 0, "checkpoint_every": 100}


def main() -> int:
    """Train both and print their ratio; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--loops", type=int, default=4, help="busy processes")
    parser.add_argument("--most", type=float, default=3.0, help="times as long that a step may take")
    parser.add_argument("--ranks", type=int, help="of the stage; by default as many as the demo has, one")
    parser.add_argument("--threads", type=int, help="of all ranks together; by default as the command chooses")
    options = parser.parse_args()
    overrides = OVERRIDES | {"stages.0.steps": options.steps}
    if options.ranks:
        overrides["num_processes"] = options.ranks
    print(f"{len(os.sched_getaffinity(0))} cores, load {os.getloadavg()[0]:.2f} before anything is started", flush=True)
    with tempfile.TemporaryDirectory() as name:
        alone = train(Path(name) / "alone", overrides, options.threads)
        said = f"load {os.getloadavg()[0]:.2f} at the end"
        with busy(options.loops):
            beside = train(Path(name) / "beside", overrides, options.threads)
        assert learned(alone) == learned(beside), "the two did not learn the same"
        steps = [step_phases(alone), step_phases(beside)]
    notes = said, f"{options.loops} loops, load {os.getloadavg()[0]:.2f} at the end"
    seconds = [[sum(phases.values()) for phases in each] for each in steps]
    for each, phases, note in zip(seconds, steps, notes, strict=True):
        print(f"{median(each):.2f} s a step ({', '.join(f'{one:.2f}' for one in each)}); {note}")
        of_each = {name: median(step.get(name, 0.0) for step in phases) for name in sorted(set().union(*phases))}
        print("   of which " + ", ".join(f"{name} {one:.2f}" for name, one in of_each.items()))
    quiet, crowded = map(median, seconds)
    is_within = crowded <= options.most * quiet
    print(f"{crowded / quiet:.2f} times as long, {'within' if is_within else 'NOT WITHIN'} {options.most:g}")
    return 0 if is_within else 1


def train(out: Path, overrides: dict[str, Any], threads: int | None) -> Path:
    """Train the stage and return its folder."""
    command = [sys.executable, "-m", "polaris_train", "stage", "tiny-cpu", "stage-1", "--out", str(out)]
    for name, value in overrides.items():
        command += ["--set", f"{name}={value}"]
    # How many threads and how they wait is for the command to say, as for a person who types it.
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "KMP_"))}
    if threads:
        environment["OMP_NUM_THREADS"] = str(threads)
    subprocess.run(command, env=environment, stdout=sys.stderr, check=True)
    return out / "stage-1"


@contextmanager
def busy(number: int) -> Generator[None]:
    """Keep processes busy that do nothing but count."""
    loop = f"import time\nend = time.monotonic() + {LOOP_S}\nwhile time.monotonic() < end: pass"
    loops = [subprocess.Popen([sys.executable, "-c", loop]) for _ in range(number)]
    try:
        yield
    finally:
        for each in loops:
            each.kill()
            each.wait()


def step_phases(stage: Path) -> list[dict[str, float]]:
    """Return the seconds of the phases of each step but the first."""
    return [each["seconds"] for each in records(stage / "performance.jsonl")][1:]


def learned(stage: Path) -> list[tuple[float, float]]:
    """Return rewards and losses of the steps."""
    return [(each["reward"], each["loss"]) for each in records(stage / "metrics.jsonl")]


def records(path: Path) -> list[dict[str, Any]]:
    """Read JSON lines."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


if __name__ == "__main__":
    sys.exit(main())
