"""One rank of a stage, started by torchrun: ``torchrun ... -m polaris_train.stage.worker RUN/STAGE``."""

import errno
import logging
import os
import shutil
import sys
from collections.abc import Callable, Collection, Generator, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from itertools import compress
from pathlib import Path

import torch
import torch.distributed as dist
from polaris_data import DataError, Problem, read_problems, to_prompt
from polaris_data.files import append_records
from polaris_eval import EvalError
from polaris_reward import RewardError, boxed_grader
from polaris_rollout import RolloutError, encode_prompts
from torch.distributed.distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous
from transformers import AutoTokenizer
from transformers.utils.logging import disable_progress_bar

from polaris_train.errors import CheckpointMemoryError, MemoryExhaustedError, RunFolderError, TrainError
from polaris_train.model.architecture import one_by_one
from polaris_train.model.policy import Policy
from polaris_train.resolved import ResolvedStage
from polaris_train.run_folder import StageFolder, read_records
from polaris_train.stage.ahead import AheadRollouts
from polaris_train.stage.capsule import record_step
from polaris_train.stage.checkpoint import Checkpointer, receipt
from polaris_train.stage.ending import Ending, end_stage
from polaris_train.stage.engine import StageEngine
from polaris_train.stage.evaluation import evaluate_when_due
from polaris_train.stage.fitting import fitted
from polaris_train.stage.heartbeat import Heartbeat
from polaris_train.stage.hints import hinted_ids, with_hints
from polaris_train.stage.launch import BAD_INPUT, ROUND, die_with_parent
from polaris_train.stage.loop import StepResult, train_stage
from polaris_train.stage.output import StepTable, Trackers
from polaris_train.stage.rollouts import Rollouts, StepSource, SynchronousRollouts, visits
from polaris_train.stage.servers import StageServers
from polaris_train.stage.settings import load_reference, load_stage_policy, stage_identity, start_core, start_state
from polaris_train.stage.teacher import open_teacher
from polaris_train.stage.training_state import TrainingState

logger = logging.getLogger(__name__)

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)
"""What a full or read-only disk, a quota or a limit on files answers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rank:
    """What a rank has once it has met the others and holds its part of the policy."""

    config: ResolvedStage
    """The stage, with what was derived for this machine."""

    store: Store
    """Reached by all ranks."""

    heart: Heartbeat
    state: TrainingState
    load: Callable[[], Policy]
    """Gives the model that the stage starts from once more; collective."""


Train = Callable[[Rank, StageFolder, ExitStack], None]
"""Trains a stage and writes its model, on every rank."""


def main(train: Train | None = None) -> None:
    """Run this rank; errors a user can mend end the stage with exit code 2.

    Args:
        train: Does the work; by default reinforcement learning.
    """
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    logging.getLogger("httpx").setLevel(logging.WARNING)  # It would tell of every request to a server.
    try:
        run_rank(StageFolder(Path(sys.argv[1])), train or _train)
    except (DataError, EvalError, RewardError, RolloutError, TrainError) as error:
        logger.error("error: %s", error)
        raise SystemExit(BAD_INPUT) from None
    except OSError as error:
        if error.errno not in _NO_ROOM:
            raise
        what, why = error.filename or sys.argv[1], error.strerror
        logger.error("error: %s: nothing more can be written (%s); make room, the same command continues", what, why)
        raise SystemExit(BAD_INPUT) from None


def run_rank(folder: StageFolder, train: Train) -> None:
    """Train a stage that was prepared and write its model.

    Args:
        folder: Shared by all ranks.
        train: Does the work.
    """
    die_with_parent()
    disable_progress_bar()
    with ExitStack() as stack:
        rank = start_rank(folder.read_resolved(), folder, stack)
        # What is left is written before the process group is: at its end the other ranks break off, and when one of
        # them is the first to be gone all start again at once.
        with smaller_next_time(rank.config, folder):
            train(rank, folder, stack)


@contextmanager
def smaller_next_time(config: ResolvedStage, folder: StageFolder) -> Generator[None]:
    """Write down the micro-batches that a lack of memory in the block leaves, where these can be smaller.

    Args:
        config: What the block was begun with, nothing left open.
        folder: Of the stage.
    """
    try:
        yield
    except MemoryExhaustedError as error:
        # Where this one had smaller micro-batches already, a fresh process may have the room.
        if max(error.max_tokens, config.max_microbatch_tokens) > error.longest:
            folder.write_allowed_tokens(max(error.max_tokens // 2, error.longest))
        raise
    except CheckpointMemoryError:
        if config.max_microbatch_tokens > config.longest_share:
            folder.write_allowed_tokens(max(config.max_microbatch_tokens // 2, config.longest_share))
        raise


def start_rank(config: ResolvedStage, folder: StageFolder, stack: ExitStack) -> Rank:
    """Meet the other ranks and load this one's part of the model that the stage starts from."""
    device = rank_device()
    store = join_ranks(device, timeout=timedelta(seconds=config.collective_timeout_s))
    stack.callback(_leave_process_group)
    config = fitted(config, device, allowed=folder.read_allowed_tokens())
    beating = Heartbeat(PrefixStore("heartbeat", store), folder, stall_limit_s=config.stall_limit_s)
    heart = stack.enter_context(beating.watched())
    if dist.get_rank() == 0:
        stack.enter_context(folder.locked())
    torch.manual_seed(config.seed)
    load = partial(load_stage_policy, config, device=device)
    state = start_state(config, load(), folder)
    heart.follow(state)
    if dist.get_rank() == 0:
        logger.info("%s", state.policy.computed)
    warning = one_by_one(state.policy.model.config.to_dict(), model=config.model)
    if warning and dist.get_rank() == 0:
        logger.warning("%s", warning)
    return Rank(config=config, store=store, heart=heart, state=state, load=load)


def _train(rank: Rank, folder: StageFolder, stack: ExitStack) -> None:
    config, state, heart = rank.config, rank.state, rank.heart
    stored = read_problems(folder.problems)
    problems = _usable_problems(with_hints(stored) if config.hint_share else stored, config)
    ending = Ending(config, folder)
    grade_many = heart.graded(stack.enter_context(boxed_grader()).grade_many)
    state.core = start_core(config, problems, folder)
    source = StepSource(problems, config, folder=folder, grade_many=grade_many)
    source.require_own(after=max(folder.checkpoints.steps(), default=0))  # before anything of the folder is changed
    checkpointer = resume(state, config, folder, stack)
    source.recall()
    engine = open_engine(config, folder, stack, rank)
    rollouts: Rollouts = SynchronousRollouts(source, open_sampler=engine.awake)
    if isinstance(engine, StageServers) and config.sampling_ahead:
        rollouts = AheadRollouts(source, config, servers=engine, stack=stack)
    steps = train_stage(
        config,
        state=state,
        rollouts=rollouts,
        evaluate=partial(evaluate_when_due, config, folder, open_sampler=engine.awake, grade_many=grade_many),
        ending=ending,
        checkpointer=checkpointer,
        reference=load_reference(config, state.policy),
        teacher=open_teacher(config, state.policy.device, stack),
        watched=heart.phase,
    )
    hinted = hinted_ids(problems) if config.hint_share else frozenset[str]()
    _follow(_recorded(steps, state.policy, config, folder), config, folder, stack, hinted=hinted)
    if state.core is not None and dist.get_rank() == 0:
        state.core.write(folder.consensus)
    with heart.phase("export"):
        end_stage(state, config, folder, ending, load=rank.load)


def open_engine(config: ResolvedStage, folder: StageFolder, stack: ExitStack, rank: Rank) -> StageServers | StageEngine:
    """Return what samples for the stage; nothing is started before something must be sampled."""
    if config.endpoints:
        return StageServers(config, rank.state.policy, stack, rank.heart, weights=folder.weights)
    return StageEngine(config, rank.state.policy, stack, PrefixStore("engines", rank.store), rank.heart)


def resume(state: TrainingState, config: ResolvedStage, folder: StageFolder, stack: ExitStack) -> Checkpointer:
    """Continue from the newest checkpoint, or start with empty logs; return what writes the next ones."""
    checkpointer = Checkpointer(
        folder.checkpoints,
        keep=config.keep_checkpoints,
        identity=stage_identity(config),
        logs=folder.logs,
        timeout=timedelta(seconds=config.collective_timeout_s),
        written=partial(_remove_unneeded, state, config, folder),
    )
    stack.callback(checkpointer.close)
    resumed = checkpointer.restore(state)
    if dist.get_rank() == 0:
        if resumed is None:
            for log in folder.logs:
                log.unlink(missing_ok=True)
            shutil.rmtree(folder.rescue.path, ignore_errors=True)
        else:
            logger.info("%s", receipt(resumed, num_steps=config.steps, num_ranks=dist.get_world_size()))
    dist.barrier()
    return checkpointer


def _remove_unneeded(state: TrainingState, config: ResolvedStage, folder: StageFolder, oldest: int) -> None:
    """Remove what no step after ``oldest`` needs, the step of the oldest checkpoint that may be continued from."""
    state.rescue.remove_before(oldest + 1)
    if config.keep_rollouts is not None:
        newest = max(folder.checkpoints.steps())
        for step in folder.rollout_steps():
            if step <= min(oldest, newest - config.keep_rollouts):
                folder.rollout(step).unlink()


def _recorded(
    steps: Iterator[StepResult], policy: Policy, config: ResolvedStage, folder: StageFolder
) -> Iterator[StepResult]:
    """Pass the steps on; those that the stage records are on disk by then."""
    for result in steps:
        record_step(result.taken, policy, config, folder)
        yield result


def _follow(
    steps: Iterator[StepResult],
    config: ResolvedStage,
    folder: StageFolder,
    stack: ExitStack,
    *,
    hinted: Collection[str],
) -> None:
    """Consume the steps; rank 0 records and shows them."""
    if dist.get_rank() != 0:
        for _ in steps:
            pass
        return
    trackers = Trackers(config, folder, stack)
    sampled = sum(each["sampled_tokens"] for each in read_records(folder.metrics))
    title, most = f"{config.run}/{config.stage}", config.max_sampled_tokens
    with StepTable(title, num_steps=config.steps, max_tokens=most, sampled_tokens=sampled) as table:
        for result in steps:
            folder.outcome.unlink(missing_ok=True)  # of a stage that had ended and was given more steps
            seen = visits(result.groups, run=config.run, stage=config.stage, step=result.step, hinted=hinted)
            append_records(folder.visits, [visit.to_data() for visit in seen])
            append_records(folder.metrics, [result.metrics])
            append_records(folder.performance, [result.performance])
            table.add(result.metrics, result.performance)
            for alarm in [*result.metrics["alarms"], *result.performance["alarms"]]:
                logger.warning("step %d: %s", result.step, alarm)
            trackers.log(result.metrics | result.performance)


def _usable_problems(problems: list[Problem], config: ResolvedStage) -> list[Problem]:
    """Set aside problems whose prompt is too long.

    Raises:
        RunFolderError: If fewer problems than one step needs are left.
    """
    tokenizer = AutoTokenizer.from_pretrained(config.model)
    prompts = encode_prompts(tokenizer, [to_prompt(problem, suffix=config.prompt_suffix) for problem in problems])
    fits = [len(prompt) <= config.max_prompt_tokens for prompt in prompts]
    usable = list(compress(problems, fits))
    if dist.get_rank() == 0 and len(usable) < len(problems):
        set_aside = [problem.problem_id for problem, fit in zip(problems, fits, strict=True) if not fit]
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


def join_ranks(device: torch.device, *, timeout: timedelta) -> Store:
    """Start the process group that ``torchrun`` or the parent process described; return the ranks' common store."""
    shared, rank, num_ranks = next(rendezvous("env://"))
    store = PrefixStore(os.environ.get(ROUND, "first"), shared)
    backend = "cuda:nccl,cpu:gloo" if device.type == "cuda" else "gloo"
    dist.init_process_group(backend, store=store, rank=rank, world_size=num_ranks, timeout=timeout)
    return store


def _leave_process_group() -> None:
    """vLLM leaves the process group when its engine ends, if there was one."""
    if dist.is_initialized():
        dist.destroy_process_group()


def rank_device() -> torch.device:
    """Return the GPU of this rank, or the CPU where there is none."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
    torch.cuda.set_device(device)
    return device


if __name__ == "__main__":
    main()
