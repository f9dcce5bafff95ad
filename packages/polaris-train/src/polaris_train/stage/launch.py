"""Preparing and starting one stage: everything that can be checked without a model is checked here.

Child processes that never outlive what started them.
"""

import ctypes
import hashlib
import importlib.util
import logging
import os
import signal
import subprocess
import sys
from pathlib import Path

from polaris_data import content_hash, read_problems, write_problems
from polaris_data.files import claim
from polaris_rollout import check_context, resolve_model

from polaris_train.errors import RecipeError, RunFolderError
from polaris_train.recipe import FREE_FIELDS, Recipe, ResolvedStage, Stage, check_ranks
from polaris_train.stage.evaluation_problems import HELD_OUT, evaluation_folder, evaluation_problems, without

logger = logging.getLogger(__name__)


_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def die_with_parent() -> None:
    """End this process when its parent is gone, even by ``kill -9``, so that no orphan goes on writing."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def prepare_stage(
    recipe: Recipe, stage: Stage, run: Path, *, model: str | None = None, problems: str | None = None
) -> Path:
    """Check a stage's inputs and write its folder's ``resolved.json`` and ``problems.jsonl``.

    What it is evaluated on, if the recipe says so, is written to ``eval/NAME.jsonl``.

    Args:
        recipe: The whole recipe.
        stage: One of its stages.
        run: Run folder.
        model: Start from this model instead of the previous stage's.
        problems: Train on these problems instead of the recipe's.

    Returns:
        The stage's folder.

    Raises:
        TrainError: If an input is wrong or the folder belongs to another run; nothing is overwritten.
    """
    _refuse_missing_trackers(recipe)
    folder = run / stage.name
    start = resolve_model(model or _start_model(recipe, stage, run))
    if not recipe.extend_positions:
        check_context(start, stage.context)
    every = read_problems(problems or recipe.problems, limit=recipe.limit)
    earlier = [run / each.name for each in recipe.stages[: recipe.stages.index(stage)]]
    evaluated = evaluation_problems(recipe, every, earlier=earlier)
    chosen = without(every, evaluated.get(HELD_OUT, ()))
    if len(chosen) < recipe.prompts_per_step:
        num_held_out = len(every) - len(chosen)
        left = f" left when {num_held_out} are held out" if num_held_out else ""
        remedy = "--set held_out to fewer" if num_held_out else f"--set prompts_per_step={len(chosen)}"
        raise RunFolderError(
            f"{problems or recipe.problems}: {len(chosen)} problems{left}, but prompts_per_step is "
            f"{recipe.prompts_per_step}; give more problems or {remedy}"
        )
    incoming = folder / "problems.jsonl.new"
    write_problems(incoming, chosen)
    constants = recipe.model_dump(exclude={"name", "model", "stages"})
    resolved = ResolvedStage(
        **constants | {"problems": problems or recipe.problems},
        **stage.model_dump(exclude={"name"}),
        run=run.name,
        stage=stage.name,
        model=start,
        problems_sha256=hashlib.sha256(incoming.read_bytes()).hexdigest(),
        evaluation_hashes={name: content_hash(each) for name, each in evaluated.items()},
    )
    try:
        claim(folder / "resolved.json", resolved.model_dump(mode="json"), free=FREE_FIELDS)
        for name, each in evaluated.items():
            write_problems(evaluation_folder(folder) / f"{name}.jsonl", each)
        incoming.replace(folder / "problems.jsonl")
    finally:
        incoming.unlink(missing_ok=True)
    return folder


def run_stage(folder: Path) -> int:
    """Train a prepared stage on this node, continuing where it stopped; return the exit code.

    One rank runs as a plain child process, several under torchrun. On several nodes, start the same worker with
    ``torchrun --nnodes ... -m polaris_train.stage.worker FOLDER`` on each, the folder being shared.

    Raises:
        RecipeError: If the ranks of this node do not divide into engines.
    """
    resolved = ResolvedStage.model_validate_json((folder / "resolved.json").read_text(encoding="utf-8"))
    num_ranks = resolved.num_processes or _num_gpus() or 1
    check_ranks(num_ranks, resolved.tensor_parallel)
    worker = ["-m", "polaris_train.stage.worker", str(folder)]
    environment = {"OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // num_ranks))} | os.environ
    if num_ranks == 1:
        command = [sys.executable, *worker]
        environment |= {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1"}
        environment |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0"}
    else:
        torchrun = ["-m", "polaris_train.stage.torchrun", "--standalone", "--nproc-per-node", str(num_ranks)]
        command = [sys.executable, *torchrun, *worker]
    while True:
        memory = _memory(folder)
        code = subprocess.run(command, check=False, env=environment, preexec_fn=die_with_parent).returncode
        if code == 0 or _memory(folder) == memory:
            return code
        logger.warning("out of memory: continuing with micro-batches half as large (%s)", _memory(folder))


def _refuse_missing_trackers(recipe: Recipe) -> None:
    for name in recipe.trackers:
        if importlib.util.find_spec(name) is None:
            raise RecipeError(
                f"trackers: {name!r} is not installed: pip install 'polaris-train[{name}]', or leave it out"
            )


def _memory(folder: Path) -> str | None:
    """Return what a rank left behind that ran out of memory and can be started again."""
    path = folder / "memory.json"
    return path.read_text(encoding="utf-8").strip() if path.exists() else None


def _start_model(recipe: Recipe, stage: Stage, run: Path) -> str:
    """Return the recipe's model for the first stage, and what the stage before left for later ones."""
    index = recipe.stages.index(stage)
    if index == 0:
        return recipe.model
    before = run / recipe.stages[index - 1].name / "model"
    if not before.is_dir():
        raise RunFolderError(
            f"stage {stage.name!r} starts from {before}, which does not exist; run stage "
            f"{recipe.stages[index - 1].name!r} first or name a model with --model"
        )
    return str(before)


def _num_gpus() -> int:
    """Count the GPUs without importing torch."""
    try:
        listed = subprocess.run(["nvidia-smi", "--list-gpus"], check=False, capture_output=True, text=True)
    except FileNotFoundError:
        return 0
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    num_listed = sum(line.startswith("GPU ") for line in listed.stdout.splitlines())
    return num_listed if visible is None else min(num_listed, len([v for v in visible.split(",") if v.strip()]))
