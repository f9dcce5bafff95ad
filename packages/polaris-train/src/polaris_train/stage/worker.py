"""One rank of a stage, started by torchrun: ``torchrun ... -m polaris_train.worker STAGE_FOLDER``."""

import fcntl
import json
import logging
import os
import shutil
import sys
from collections.abc import Generator, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from polaris_data import DataError, Problem, read_problems, to_prompt
from polaris_data.files import append_records, write_json
from polaris_eval import EvalError
from polaris_reward import RewardError, boxed_grader
from polaris_rollout import RolloutError, encode_prompt, model_digest
from torch.distributed.distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous
from transformers import AutoTokenizer
from transformers.utils.logging import disable_progress_bar

from polaris_train.errors import MemoryExhaustedError, RunFolderError, TrainError
from polaris_train.grpo.rescue import RescueBuffer
from polaris_train.model.loading import load_policy, save_policy
from polaris_train.model.policy import Policy
from polaris_train.recipe import FREE_FIELDS, ResolvedStage
from polaris_train.stage.checkpoint import Checkpointer, TrainingState, receipt
from polaris_train.stage.engine import StageEngine
from polaris_train.stage.launch import die_with_parent
from polaris_train.stage.loop import StepResult, train_stage
from polaris_train.stage.output import StepTable, Trackers
from polaris_train.stage.sampling import visits

logger = logging.getLogger(__name__)


MEMORY_FILE = "memory.json"
"""In a stage's folder: what is left of its micro-batches after memory ran out."""


MODEL_FILE = "trained.json"
"""In an exported model: the run, stage and step that it comes from."""


def main() -> None:
    """Run this rank; errors a user can mend end the stage with exit code 2."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    try:
        run_rank(Path(sys.argv[1]))
    except (DataError, EvalError, RewardError, RolloutError, TrainError) as error:
        logger.error("error: %s", error)
        raise SystemExit(2) from None


def run_rank(folder: Path) -> None:
    """Train a stage whose folder holds ``resolved.json`` and ``problems.jsonl``; write its model.

    Args:
        folder: Of the stage; shared by all ranks.
    """
    die_with_parent()
    disable_progress_bar()
    config = ResolvedStage.model_validate_json((folder / "resolved.json").read_text(encoding="utf-8"))
    config = _with_less_memory(config, folder)
    try:
        with ExitStack() as stack:
            _train(config, folder, stack)
    except MemoryExhaustedError as error:
        _note_memory(error, folder)
        raise


def _train(config: ResolvedStage, folder: Path, stack: ExitStack) -> None:
    device = _device()
    store = _join_ranks(device)
    stack.callback(_leave_process_group)
    if dist.get_rank() == 0:
        stack.enter_context(_locked(folder))
    torch.manual_seed(config.seed)
    load = partial(
        load_policy,
        config.model,
        device=device,
        context=config.context,
        precision=config.precision,
        cpu_offload=config.cpu_offload,
    )
    state = _start(config, load(), device)
    engine = StageEngine(config, state.policy, stack, PrefixStore("engines", store))
    problems = _usable_problems(read_problems(folder / "problems.jsonl"), config)
    identity = config.model_dump(mode="json", exclude=set(FREE_FIELDS)) | {"digest": model_digest(config.model)}
    logs = [folder / name for name in ("visits.jsonl", "metrics.jsonl", "performance.jsonl")]
    checkpointer = Checkpointer(folder / "checkpoints", keep=config.keep_checkpoints, identity=identity, logs=logs)
    stack.callback(checkpointer.close)
    resumed = checkpointer.restore(state)
    if dist.get_rank() == 0:
        if resumed is None:
            for log in logs:
                log.unlink(missing_ok=True)
        else:
            line = receipt(resumed, num_steps=config.steps, num_ranks=dist.get_world_size())
            logger.info("%s", line)
    dist.barrier()
    steps = train_stage(
        config,
        problems=problems,
        state=state,
        checkpointer=checkpointer,
        open_sampler=engine.awake,
        grader=stack.enter_context(boxed_grader()),
        folder=folder,
        reference=load().requires_grad_(requires_grad=False).eval() if config.kl_coef else None,
        history=_records(folder / "metrics.jsonl"),
    )
    _follow(steps, config, folder, stack)
    exported = {"run": config.run, "stage": config.stage, "step": state.step}
    if _records(folder / "model" / MODEL_FILE) != [exported]:
        _export(state.policy, config, folder, exported)


def _start(config: ResolvedStage, policy: Policy, device: torch.device) -> TrainingState:
    return TrainingState(
        policy=policy,
        optimizer=torch.optim.AdamW(policy.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay),
        scaler=torch.amp.GradScaler(device.type, enabled=policy.dtype == torch.float16),
        rescue=RescueBuffer(max_age=config.rescue_max_age, max_tokens=config.max_answer_tokens, seed=config.seed),
    )


def _with_less_memory(config: ResolvedStage, folder: Path) -> ResolvedStage:
    """Return the stage with the micro-batches that an earlier attempt's lack of memory left."""
    path = folder / MEMORY_FILE
    if not path.exists():
        return config
    allowed = json.loads(path.read_text(encoding="utf-8"))["microbatch_tokens"]
    return config.model_copy(update={"microbatch_tokens": min(allowed, config.max_microbatch_tokens)})


def _note_memory(error: MemoryExhaustedError, folder: Path) -> None:
    """Halve the micro-batches of the next attempt, unless they hold single answers already."""
    if error.max_tokens > error.longest:
        allowed = max(error.max_tokens // 2, error.longest)
        write_json(folder / MEMORY_FILE, {"microbatch_tokens": allowed})


def _records(path: Path) -> list[dict[str, Any]]:
    """Return the objects of a file of JSON lines, none where there is no file."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


def _follow(steps: Iterator[StepResult], config: ResolvedStage, folder: Path, stack: ExitStack) -> None:
    """Consume the steps; rank 0 records and shows them."""
    if dist.get_rank() != 0:
        for _ in steps:
            pass
        return
    trackers = Trackers(config, folder, stack)
    with StepTable(f"{config.run}/{config.stage}", num_steps=config.steps) as table:
        for result in steps:
            seen = visits(result.rollout, config, step=result.step)
            append_records(folder / "visits.jsonl", [asdict(visit) for visit in seen])
            append_records(folder / "metrics.jsonl", [result.metrics])
            append_records(folder / "performance.jsonl", [result.performance])
            table.add(result.metrics, result.performance)
            for alarm in result.metrics["alarms"]:
                logger.warning("step %d: %s", result.step, alarm)
            trackers.log(result.metrics | result.performance)


def _usable_problems(problems: list[Problem], config: ResolvedStage) -> list[Problem]:
    """Set aside problems whose prompt is too long.

    Raises:
        RunFolderError: If fewer problems than one step needs are left.
    """
    tokenizer = AutoTokenizer.from_pretrained(config.model)
    usable = [
        problem
        for problem in problems
        if len(encode_prompt(tokenizer, to_prompt(problem, suffix=config.prompt_suffix))) <= config.max_prompt_tokens
    ]
    if dist.get_rank() == 0 and len(usable) < len(problems):
        set_aside = [problem.problem_id for problem in problems if problem not in usable]
        logger.warning(
            "%d of %d problems set aside: prompt longer than max_prompt_tokens = %d (%s%s)",
            len(set_aside),
            len(problems),
            config.max_prompt_tokens,
            ", ".join(set_aside[:5]),
            ", ..." if len(set_aside) > 5 else "",
        )
    if len(usable) < config.prompts_per_step:
        raise RunFolderError(
            f"{len(usable)} problems are left but prompts_per_step is {config.prompts_per_step}; give more "
            "problems, raise max_prompt_tokens, or lower prompts_per_step"
        )
    return usable


def _export(policy: Policy, config: ResolvedStage, folder: Path, exported: Mapping[str, Any]) -> None:
    """Write the stage's model, under a temporary name first, with the steps that made it."""
    incoming = folder / "model.partial"
    if dist.get_rank() == 0:
        shutil.rmtree(incoming, ignore_errors=True)
    dist.barrier()
    save_policy(policy, incoming, source=config.model)
    if dist.get_rank() == 0:
        append_records(incoming / MODEL_FILE, [exported])
        shutil.rmtree(folder / "model", ignore_errors=True)
        incoming.replace(folder / "model")
    dist.barrier()


@contextmanager
def _locked(folder: Path) -> Generator[None]:
    """Keep a second run out of the folder for as long as this process lives."""
    with (folder / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RunFolderError(f"{folder} is in use by another run; wait for it or stop it") from None
        yield


def _join_ranks(device: torch.device) -> Store:
    """Start the process group that ``torchrun`` or the parent process described; return the ranks' common store."""
    store, rank, num_ranks = next(rendezvous("env://"))
    backend = "cuda:nccl,cpu:gloo" if device.type == "cuda" else "gloo"
    dist.init_process_group(backend, store=store, rank=rank, world_size=num_ranks)
    return store


def _leave_process_group() -> None:
    """vLLM leaves the process group when its engine ends, if there was one."""
    if dist.is_initialized():
        dist.destroy_process_group()


def _device() -> torch.device:
    if not torch.cuda.is_available():
        return torch.device("cpu")
    device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
    torch.cuda.set_device(device)
    return device


if __name__ == "__main__":
    main()
