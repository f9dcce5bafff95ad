"""One worst-case step of a stage, taken for its memory alone: ``python -m polaris_train.stage.probe STAGE.json``.

Two steps, so that the second has the optimizer's moments; each of two micro-batches a rank, so that gradients add up;
each of the longest sequence, and more of them where a micro-batch has room. Tokens are random, the trainer is real.
"""

import gc
import json
import logging
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from random import Random
from typing import Any

import torch
import torch.distributed as dist
from polaris_rollout import resolve_model, visible_devices
from polaris_rollout.engines import openmp_environment
from transformers.utils.logging import disable_progress_bar

from polaris_train.embedded import tiny_model
from polaris_train.errors import PlanError, TrainError
from polaris_train.model.packing import MicroBatch, PerToken, TrainingSequence
from polaris_train.model.step import TokenLosses, accumulate, optimizer_step
from polaris_train.planning import GIB
from polaris_train.recipe import Recipe, Stage
from polaris_train.resolved import ResolvedStage
from polaris_train.stage.fitting import derived_on, fitted, machine_here
from polaris_train.stage.monitor import peak_bytes, reset_peak, resident_bytes
from polaris_train.stage.settings import load_stage_policy, stage_optimizer, update_settings
from polaris_train.stage.worker import join_ranks, rank_device

_NUM_STEPS, _NUM_MICROBATCHES = 2, 2
_TIMEOUT = timedelta(minutes=10)


def probe_recipe(recipe: Recipe) -> dict[str, Any]:
    """Take a worst-case step of a recipe's longest stage on this machine's ranks.

    On a CPU the peak is that of the process above what it holds when a step of the tiny model has loaded all code, with
    freed memory given back at once; a long-running process keeps up to a third more.

    Returns:
        ``stage``, ``num_ranks``, ``device``, ``tokens`` of a micro-batch, the highest ``peak_gib`` of all ranks, and
        what the plan says of it, ``planned_gib``, or ``None`` for a model that cannot be planned.

    Raises:
        PlanError: If the step failed; what the ranks said is on stderr.
    """
    stage = max(recipe.stages, key=lambda each: each.context)
    own = stage.model_dump(exclude={"name"}) if isinstance(stage, Stage) else {"context": stage.context, "steps": 1}
    num_ranks = recipe.num_processes or len(visible_devices()) or 1
    resolved = ResolvedStage.model_validate(
        recipe.constants()
        | recipe.engine_tables()
        | own  # What a step of traces computes takes as much as what one of answers does.
        | {
            "temperature": 1.0,
            "run": recipe.name,
            "stage": stage.name,
            "model": resolve_model(recipe.model),
            "problems_sha256": "",
        }
    )
    with tempfile.TemporaryDirectory() as folder:
        asked, found = Path(folder) / "stage.json", Path(folder) / "found.json"
        asked.write_text(resolved.model_dump_json(), encoding="utf-8")
        code = subprocess.run(_command(asked, found, num_ranks), check=False, env=_environment(num_ranks)).returncode
        if code or not found.exists():
            raise PlanError(
                f"the probe of stage {stage.name!r} ended with exit code {code}, as said above; it loads the model and "
                "takes a step of the longest context, so give it what the stage would have"
            )
        return json.loads(found.read_text(encoding="utf-8"))


def describe_probe(found: Mapping[str, Any]) -> str:
    """Return what a probe found, beside the plan."""
    said = (
        f"{found['stage']}: {_NUM_STEPS} steps of {_NUM_MICROBATCHES} micro-batches of {found['tokens']:,} tokens on "
        f"{found['num_ranks']} rank(s) of this machine ({found['device']})\n"
        f"peak of the trainer: {found['peak_gib']:.2f} GiB a rank measured"
    )
    if found["planned_gib"] is None:
        return said
    return f"{said}, {found['planned_gib']:.2f} GiB planned ({found['planned_gib'] / found['peak_gib'] - 1:+.0%})"


def _command(asked: Path, found: Path, num_ranks: int) -> list[str]:
    worker = ["-m", __spec__.name, str(asked), str(found)]
    if num_ranks == 1:
        return [sys.executable, *worker]
    return [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(num_ranks), *worker]


def _environment(num_ranks: int) -> dict[str, str]:
    alone = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "LOCAL_WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1"}
    # The host's allocator would keep what is freed, and so show more than a step needs.
    given_back = {"MALLOC_MMAP_THRESHOLD_": str(2**17)}
    return (
        os.environ
        | openmp_environment(num_ranks)
        | given_back
        | (alone | {"MASTER_PORT": "0"} if num_ranks == 1 else {})
    )


def main() -> None:
    """Run one rank of a probe."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    disable_progress_bar()
    config = ResolvedStage.model_validate_json(Path(sys.argv[1]).read_text(encoding="utf-8"))
    try:
        with ExitStack() as stack:
            found = _probe(config, stack)
    except TrainError as error:
        logging.getLogger(__name__).error("error: %s", error)
        raise SystemExit(2) from None
    if found:
        Path(sys.argv[2]).write_text(json.dumps(found), encoding="utf-8")


def _probe(config: ResolvedStage, stack: ExitStack) -> dict[str, Any] | None:
    device = rank_device()
    join_ranks(device, timeout=_TIMEOUT)
    stack.callback(dist.destroy_process_group)
    derived = derived_on(machine_here(device), config)
    config = fitted(config, device)
    before = 0
    if device.type == "cpu":
        small = {"model": str(tiny_model()), "context": 64, "microbatch_tokens": None}
        _take_steps(config.model_copy(update=small), device)
        gc.collect()
        before = resident_bytes()
    reset_peak()
    _take_steps(config, device)
    peak = torch.tensor(float(peak_bytes() - before))
    dist.all_reduce(peak, op=dist.ReduceOp.MAX)
    if dist.get_rank():
        return None
    return {
        "stage": config.stage,
        "num_ranks": dist.get_world_size(),
        "device": device.type,
        "tokens": config.max_microbatch_tokens,
        "peak_gib": float(peak) / GIB,
        "planned_gib": derived.memory.trainer / GIB if derived else None,
    }


def _take_steps(config: ResolvedStage, device: torch.device) -> None:
    _, _, settings = update_settings(config)
    policy, sequences = load_stage_policy(config, device=device), _sequences(config)
    optimizer = stage_optimizer(config, policy)
    for _ in range(_NUM_STEPS):
        optimizer_step(policy, optimizer, accumulate(policy, sequences, _loss, settings), settings)


def _sequences(config: ResolvedStage) -> list[TrainingSequence]:
    """Return as many of the longest sequences as fill the micro-batches of all ranks."""
    random = Random(0)
    each = max(1, config.max_microbatch_tokens // config.context)
    number = each * _NUM_MICROBATCHES * dist.get_world_size()
    answer = config.context - 1
    return [
        TrainingSequence(
            prompt_token_ids=(1,),
            token_ids=tuple(random.choices(range(100), k=answer)),
            weight=1 / (answer * number),
        )
        for _ in range(number)
    ]


def _loss(logprobs: PerToken, entropies: PerToken, batch: MicroBatch) -> TokenLosses:
    return TokenLosses(losses=-logprobs)


if __name__ == "__main__":
    main()
