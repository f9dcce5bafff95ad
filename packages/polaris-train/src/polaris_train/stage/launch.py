"""Preparing and starting one stage: everything that can be checked without a model is checked here."""

import ctypes
import hashlib
import importlib.util
import json
import logging
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from polaris_data import Problem, content_hash, read_problems, write_problems
from polaris_data.files import claim
from polaris_rollout import check_context, resolve_model, visible_devices
from polaris_rollout.engines import STALL_EXIT_CODE, openmp_environment

from polaris_train.errors import PlanError, RecipeError, RunFolderError
from polaris_train.model.trainable import check_model
from polaris_train.planning import model_shape
from polaris_train.recipe import Recipe, Stage, check_ranks
from polaris_train.recipe.sft import SftStage
from polaris_train.recipe.tables import AUTO
from polaris_train.resolved import FREE_FIELDS, ResolvedStage
from polaris_train.run_folder import RunFolder, StageFolder
from polaris_train.stage.curriculum import stage_problems
from polaris_train.stage.evaluation_problems import HELD_OUT, evaluation_problems, without
from polaris_train.stage.first_consensus import first_consensus
from polaris_train.stage.teacher import check_teacher

logger = logging.getLogger(__name__)

_PR_SET_PDEATHSIG = 1  # linux/prctl.h

_WORKER, _SFT_WORKER = "polaris_train.stage.worker", "polaris_train.sft.worker"
_TORCHRUN = "polaris_train.stage.torchrun"

ROUND = "POLARIS_ROUND"
"""Variable that differs whenever the ranks are started again, so that they do not read what they wrote before."""

SMALL = 10_000_000
"""Parameters below which a CPU has multiplied before a second thread is awake: one is as fast, and faster on a machine
that has other things to do."""

BAD_INPUT = 2
"""Exit code of a rank that ended with a `TrainError` or its like: it would end so again."""


def prepare_stage(
    recipe: Recipe,
    stage: Stage,
    run: Path,
    *,
    model: str | None = None,
    problems: str | None = None,
    held_out: str | None = None,
) -> Path:
    """Check a stage's inputs and write its folder's ``resolved.json`` and ``problems.jsonl``.

    What it is evaluated on, if the recipe says so, is written to ``eval/NAME.jsonl``.

    Args:
        recipe: The whole recipe.
        stage: One of its stages.
        run: Run folder.
        model: Start from this model instead of the previous stage's.
        problems: Train on these problems instead of the recipe's.
        held_out: A file of problems that ``held-out`` in ``evaluate_on`` means; none of them may be trained on.

    Returns:
        The stage's folder.

    Raises:
        TrainError: If an input is wrong or the folder belongs to another run; nothing is overwritten.
    """
    refuse_missing_trackers(recipe)
    folder = RunFolder(run).stage(stage.name)
    temperature = _temperature(stage, folder)
    start = checked_start(recipe, stage, folder.run, model=model)
    teacher = check_teacher(recipe, student=start, context=stage.context)
    source = problems or recipe.problems
    every = read_problems(source, limit=recipe.limit)
    earlier = [folder.run.stage(each.name) for each in recipe.stages[: recipe.stages.index(stage)]]
    evaluated = evaluation_problems(recipe, every, earlier=earlier, held_out=held_out)
    chosen = without(every, evaluated.get(HELD_OUT, ()))
    _refuse_too_few(len(chosen), recipe, source, num_held_out=len(every) - len(chosen))
    curriculum = stage_problems(recipe, stage, chosen, run=folder.run)
    trained_on = chosen if curriculum is None else curriculum.problems
    write_problems(folder.incoming_problems, trained_on)
    try:
        resolved = ResolvedStage(
            **recipe.constants() | {"problems": source, "lr_decay_steps": recipe.decay_steps(stage.steps)},
            **recipe.engine_tables(),
            **stage.model_dump(exclude={"name", "temperature"}),
            temperature=temperature,
            run=run.name,
            stage=stage.name,
            model=start,
            teacher=teacher,
            consensus=None if recipe.core is None else first_consensus(recipe.core, earlier, folder, trained_on),
            problems_sha256=hashlib.sha256(folder.incoming_problems.read_bytes()).hexdigest(),
            evaluation_hashes={name: content_hash(each) for name, each in evaluated.items()},
        )
        _claim(folder, resolved, evaluated)
        if curriculum is not None:
            curriculum.write(folder.curriculum.parent, seed=recipe.seed)
    finally:
        folder.incoming_problems.unlink(missing_ok=True)
    return folder.path


def run_stage(folder: Path) -> int:
    """Train a prepared stage on this node, continuing where it stopped; return the exit code.

    One rank runs as a plain child process, several under torchrun. Where torchrun's own variables (``PET_NNODES``,
    ``PET_RDZV_ENDPOINT``, ...) say that there are several nodes, these are the ranks of one of them; to start them by
    hand see `torchrun_line`. Ranks that crash or stall are started again, at most ``max_restarts`` times; not where an
    input is wrong.

    Raises:
        RecipeError: If the ranks of this node do not divide into engines.
    """
    stage = StageFolder(folder)
    resolved = stage.read_resolved()
    num_ranks = _num_ranks(resolved)
    worker = ["-m", _worker(resolved), str(folder)]
    is_alone = os.environ.get("PET_NNODES", "1") == "1"
    is_child = num_ranks == 1 and is_alone
    if is_child:
        command = [sys.executable, *worker]
        alone = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0"}
        environment = openmp_environment() | _threads(resolved) | os.environ | alone
    else:
        ranks = ["--nproc-per-node", str(num_ranks), "--max-restarts", str(resolved.max_restarts)]
        ranks += ["--standalone"] if is_alone else []
        command = [sys.executable, "-m", _TORCHRUN, *ranks, *worker]
        environment = _threads(resolved) | os.environ
    restarts = 0
    while True:
        allowed = stage.read_allowed_tokens()
        code = subprocess.run(command, check=False, env=environment, preexec_fn=die_with_parent).returncode
        if code == 0:
            return code
        now = stage.read_allowed_tokens()
        if now != allowed:
            logger.warning("out of memory: continuing with micro-batches half as large (microbatch_tokens = %s)", now)
        elif code == BAD_INPUT or not is_child or restarts == resolved.max_restarts:  # torchrun has counted its own.
            return shell_code(code)
        else:
            restarts += 1
            said = restart_message("the worker", code, number=restarts, most=resolved.max_restarts)
            logger.warning("%s", said)


def _threads(resolved: ResolvedStage) -> dict[str, str]:
    """Return how many threads each rank of a small model computes with; nothing for others."""
    try:
        is_small = model_shape(resolved.model).parameters < SMALL
    except PlanError:
        return {}
    return {"OMP_NUM_THREADS": "1"} if is_small else {}


def restart_message(who: str, code: int, *, number: int, most: int) -> str:
    """Say that ranks are started again, and why.

    Args:
        who: Ended first.
        code: Its exit code; minus the number of a signal that killed it.
        number: Of this restart, counted from 1.
        most: Restarts that there may be.
    """
    causes = {
        STALL_EXIT_CODE: "stalled, as said above",
        -signal.SIGKILL: "was killed, by a person or because the machine's memory was full (see dmesg)",
    }
    cause = causes.get(code, f"was ended by signal {-code}" if code < 0 else f"ended with exit code {code}")
    return f"{who} {cause}: restart {number} of {most} (max_restarts), from the newest checkpoint"


def shell_code(code: int) -> int:
    """Return the exit code of a process as a shell gives it: 128 and the number of a signal that killed it."""
    return code if code >= 0 else 128 - code


def torchrun_line(folder: Path) -> str:
    """Return the command that trains a prepared stage when it is given on every node, the folder being shared.

    The nodes' shells know ``NUM_NODES`` and ``HEAD``, the ``host:port`` of one of them.

    Raises:
        RecipeError: If the ranks of a node do not divide into engines.
    """
    resolved = StageFolder(folder).read_resolved()
    return (
        f"python -m {_TORCHRUN} --nnodes $NUM_NODES --nproc-per-node {_num_ranks(resolved)} --max-restarts "
        f"{resolved.max_restarts} --rdzv-backend c10d --rdzv-endpoint $HEAD -m {_worker(resolved)} "
        f"{shlex.quote(str(folder.absolute()))}"
    )


def _worker(resolved: ResolvedStage) -> str:
    return _WORKER if resolved.sft is None else _SFT_WORKER


def die_with_parent() -> None:
    """End this process when its parent is gone, even by ``kill -9``, so that no orphan goes on writing."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def refuse_missing_trackers(recipe: Recipe) -> None:
    """Refuse a recipe with trackers that are not installed.

    Raises:
        RecipeError: Naming the first.
    """
    for name in recipe.trackers:
        if importlib.util.find_spec(name) is None:
            raise RecipeError(
                f"trackers: {name!r} is not installed: pip install 'polaris-train[{name}]', or leave it out"
            )


def _refuse_too_few(num_problems: int, recipe: Recipe, source: str, *, num_held_out: int) -> None:
    if num_problems >= recipe.prompts_per_step:
        return
    left = f" left when {num_held_out} are held out" if num_held_out else ""
    remedy = "--set held_out to fewer" if num_held_out else f"--set prompts_per_step={num_problems}"
    raise RunFolderError(
        f"{source}: {num_problems} problems{left}, but prompts_per_step is {recipe.prompts_per_step}; give more "
        f"problems or {remedy}"
    )


def _claim(folder: StageFolder, resolved: ResolvedStage, evaluated: Mapping[str, Sequence[Problem]]) -> None:
    """Make the folder this stage's own and put its problems there.

    Raises:
        OtherRunError: If it belongs to another run.
    """
    claim(folder.resolved, resolved.model_dump(mode="json"), free=FREE_FIELDS)
    for name, problems in evaluated.items():
        write_problems(folder.evaluation_problems(name), problems)
    folder.incoming_problems.replace(folder.problems)


def checked_start(recipe: Recipe, stage: Stage | SftStage, run: RunFolder, *, model: str | None) -> str:
    """Return the model that a stage starts from, where the recipe can train it.

    Args:
        recipe: Of the stage.
        stage: One of its stages.
        run: Holds what the stage before left.
        model: Start from this one instead.

    Raises:
        RunFolderError: If the stage before has left none.
        ModelError: If it is not there, cannot be trained, or has too few positions.
    """
    start = resolve_model(model or _start_model(recipe, stage, run))
    if not recipe.extend_positions:
        check_context(start, stage.context)
    check_model(start, context_parallel=recipe.context_parallel)
    return start


def _start_model(recipe: Recipe, stage: Stage | SftStage, run: RunFolder) -> str:
    """Return the recipe's model for the first stage, and what the stage before left for later ones.

    Raises:
        RunFolderError: If the stage before has left none.
    """
    index = recipe.stages.index(stage)
    if index == 0:
        return recipe.model
    name = recipe.stages[index - 1].name
    before = run.stage(name).model
    if not before.is_dir():
        raise RunFolderError(
            f"stage {stage.name!r} starts from {before}, which does not exist; run stage {name!r} first or name a "
            "model with --model"
        )
    return str(before)


def _temperature(stage: Stage, folder: StageFolder) -> float:
    """Return the stage's temperature, or for ``auto`` the one that was found for it."""
    if stage.temperature != AUTO:
        return stage.temperature
    try:
        return json.loads(folder.temperature.read_text(encoding="utf-8"))["temperature"]
    except FileNotFoundError:
        raise RunFolderError(
            f'stage {stage.name!r} has temperature = "auto", but {folder.temperature} does not exist; find it with '
            f"polaris-rollout temperature HELD-OUT --out {folder.path}, or --set the stage's temperature to a number"
        ) from None
    except (ValueError, KeyError, TypeError):
        raise RunFolderError(
            f"{folder.temperature} holds no temperature; remove it and run polaris-rollout temperature again"
        ) from None


def _num_ranks(resolved: ResolvedStage) -> int:
    """Return how many ranks a node has, if they divide into engines."""
    num_ranks = resolved.num_processes or len(visible_devices()) or 1
    check_ranks(num_ranks, resolved.tensor_parallel, resolved.context_parallel)
    return num_ranks
