"""Measure what sampling ahead saves: a trainer and one ``vllm serve`` on loopback, with one thread and one core each.

Run as ``python tests/bench/ahead.py OUT``: trains the embedded model on synthetic problems with ``sampling_ahead`` 0
and 1 by turns, on the same server and with real weight transfer. Prints the seconds of a step (the mean without the
first two), what they are spent on, and the median over the runs with its ratio, which is at least 0.5. Sampling and
update should take about as long, which the phases of ``sampling_ahead = 0`` show: fewer ``--slots`` make sampling
longer, a larger ``--microbatch`` updates shorter. A core stands for a device: give cores that nothing else uses.
"""

import argparse
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, median
from typing import Any

from polaris_train.embedded import tiny_model

CONTEXT = 512
WARM_UP = 2
"""Steps at the start that are not counted: the first has nothing to overlap with."""

START_S = 600.0

_ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_LOGGING_LEVEL": "ERROR",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_SERVER_DEV_MODE": "1",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One training run."""

    ahead: int
    """Its ``sampling_ahead``."""

    step_s: float
    """Mean seconds of a step."""

    phases_s: dict[str, float]
    """Of which each phase takes so many."""

    metrics: list[dict[str, Any]]
    """Of its steps."""

    held_out: dict[str, float] | None = None
    """Share of other problems that it solves after the last step, with its 95% interval, where that was asked for."""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="folder for the runs")
    parser.add_argument("--steps", type=int, default=12, help="of each run")
    parser.add_argument("--runs", type=int, default=3, help="of each kind")
    parser.add_argument("--prompts", type=int, default=32, help="of a step")
    parser.add_argument("--samples", type=int, default=16, help="of a prompt")
    parser.add_argument("--slots", type=int, default=64, help="answers that the server works on at a time")
    parser.add_argument("--microbatch", type=int, default=2048, help="tokens that the trainer works on at a time")
    parser.add_argument("--held-out", type=int, default=0, help="other problems, solved after the last step; 0: none")
    parser.add_argument("--cores", default="0,1", help="of the trainer and of the server")
    arguments = parser.parse_args()
    trainer_core, server_core = map(int, arguments.cores.split(","))
    arguments.out.mkdir(parents=True, exist_ok=True)
    settings = {
        "prompts_per_step": arguments.prompts,
        "samples_per_prompt": arguments.samples,
        "microbatch_tokens": arguments.microbatch,
        "stages.0.steps": arguments.steps,
    }
    if arguments.held_out:
        settings |= {"held_out": arguments.held_out, "evaluate_every": arguments.steps}
    runs: list[Run] = []
    with serving(arguments.out / "server.log", core=server_core, slots=arguments.slots) as address:
        for number in range(arguments.runs):
            for ahead in (0, 1) if number % 2 == 0 else (1, 0):
                run = train(arguments.out / f"{number}-{ahead}", address, ahead, settings, core=trainer_core)
                print(f"run {number}, sampling_ahead = {ahead}: {run.step_s:.2f} s a step", flush=True)
                runs.append(run)
    print(report(runs))


@contextmanager
def serving(log: Path, *, core: int, slots: int) -> Generator[str]:
    """Start a server of the embedded model that takes weights, and yield its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    options = [
        *("--dtype", "float32", "--enforce-eager", "--no-enable-chunked-prefill", "--disable-uvicorn-access-log"),
        *("--max-model-len", str(CONTEXT), "--max-num-batched-tokens", "2048", "--max-num-seqs", str(slots)),
        *("--logprobs-mode", "processed_logprobs", "--enable-scale-out", "--host", "127.0.0.1", "--port", port),
        *("--weight-transfer-config", '{"backend": "polaris_files"}'),
    ]
    # What ``vllm serve`` runs: that command itself does not start where vLLM's CPU build is installed (0.32).
    command = [sys.executable, "-m", "vllm.entrypoints.launchers.api_server.entry", "--model", str(tiny_model())]
    with log.open("w", encoding="utf-8") as output:
        server = subprocess.Popen(
            command + options,
            env=os.environ | _ENVIRONMENT,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=lambda: os.sched_setaffinity(0, {core}),
        )
    try:
        _wait_for(server, f"http://127.0.0.1:{port}", log)
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(server.pid, signal.SIGKILL)  # with its engine, which is a process of its own
        server.wait()


def train(out: Path, address: str, ahead: int, settings: dict[str, int], *, core: int) -> Run:
    """Train a stage and read what it measured."""
    values = {
        "stages.0.temperature": 1,
        "stages.0.context": CONTEXT,
        "evaluate_every": 0,
        "checkpoint_every": 100,
        "num_processes": 1,
        "endpoints": f'["{address}"]',
        "sampling_ahead": ahead,
    } | settings
    subprocess.run(
        [sys.executable, "-m", "polaris_train", "stage", "tiny-cpu", "stage-1", "--out", str(out)]
        + [part for name, value in values.items() for part in ("--set", f"{name}={value}")],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=(out.parent / f"{out.name}.log").open("w"),
        check=True,
        preexec_fn=lambda: os.sched_setaffinity(0, {core}),
    )
    costs = _records(out / "stage-1" / "performance.jsonl")[WARM_UP:]
    names = sorted({name for cost in costs for name in cost["seconds"]} - {"evaluate"})
    phases = {name: fmean(cost["seconds"].get(name, 0.0) for cost in costs) for name in names}
    metrics = _records(out / "stage-1" / "metrics.jsonl")
    held_out = metrics[-1].get("evaluations", {}).get("held-out")
    return Run(ahead=ahead, step_s=sum(phases.values()), phases_s=phases, metrics=metrics, held_out=held_out)


def report(runs: Sequence[Run]) -> str:
    """Return the medians and what the metrics say of lag and mismatch."""
    lines: list[str] = []
    medians: dict[int, float] = {}
    for ahead in (0, 1):
        own = [run for run in runs if run.ahead == ahead]
        medians[ahead] = median(run.step_s for run in own)
        phases = {name: median(run.phases_s[name] for run in own) for name in own[0].phases_s}
        said = ", ".join(f"{name} {seconds:.2f}" for name, seconds in phases.items())
        spread = ", ".join(f"{run.step_s:.2f}" for run in own)
        lines.append(f"sampling_ahead = {ahead}: {medians[ahead]:.2f} s a step ({said}); runs {spread}")
        lines += [f"  held-out after the last step: {_figures(run.held_out)}" for run in own if run.held_out]
    metrics = [each for run in runs if run.ahead for each in run.metrics[WARM_UP:]]
    gaps = {
        lag: fmean(found) if (found := [gap for each in metrics if (gap := _gap(each, lag)) is not None]) else None
        for lag in ("0", "1")
    }
    lines += [
        f"lag mean {fmean(each['lag_mean'] for each in metrics):.2f}, max {max(each['lag_max'] for each in metrics)}; "
        f"{fmean(each['spanning_share'] for each in metrics):.1%} of the completions span versions; probability gap "
        f"by lag {', '.join(f'{lag}: {_figure(gap)}' for lag, gap in gaps.items())}",
        f"ahead / synchronous: {medians[1] / medians[0]:.3f}",
    ]
    return "\n".join(lines)


def _gap(metrics: dict[str, Any], lag: str) -> float | None:
    return metrics["by_lag"][lag]["prob_gap_mean"]


def _figures(values: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.3f}" for name, value in values.items())


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.2g}"


def _records(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def _wait_for(server: "subprocess.Popen[bytes]", address: str, log: Path) -> None:
    deadline = time.monotonic() + START_S
    while True:
        if server.poll() is not None or time.monotonic() > deadline:
            raise SystemExit(f"the server did not start: {log.read_text(encoding='utf-8')[-2000:]}")
        try:
            urllib.request.urlopen(f"{address}/health", timeout=5).close()
            return
        except (urllib.error.URLError, TimeoutError, ConnectionError):
            time.sleep(0.5)


if __name__ == "__main__":
    main()
