"""The sampled and graded completions of one step: drawn once, kept on disk, replayed after a kill."""

import json
import random
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import torch.distributed as dist
from polaris_data import Problem, Visit, to_prompt
from polaris_reward import MAX_FAILED_SHARE, Grade, Grader, Outcome, check_failures
from polaris_rollout import Group, Prompt, Sampler, SamplingParams, derive_seed
from polaris_rollout.sharing import longest_first
from polaris_rollout.store import read_columns, read_groups, write_groups

from polaris_train.recipe import ResolvedStage
from polaris_train.records import GradedGroup


def draw_problems(problems: Sequence[Problem], *, step: int, num_problems: int, seed: int) -> list[Problem]:
    """Return the problems of a step: every epoch a new order, its last incomplete batch left out.

    A function of the step alone, so a resumed run continues in the middle of an epoch without any state.
    """
    position = sampler_position(len(problems), step=step, num_problems=num_problems, seed=seed)
    order = list(range(len(problems)))
    random.Random(position["permutation_seed"]).shuffle(order)
    return [problems[i] for i in order[position["cursor"] : position["cursor"] + num_problems]]


def sampler_position(size: int, *, step: int, num_problems: int, seed: int) -> dict[str, int]:
    """Return where a step begins: the epoch, the problems of it already drawn, and the seed of its order.

    Args:
        size: Problems in the set.
        step: Counted from 1.
        num_problems: Of each step.
        seed: Of the stage.
    """
    epoch, index = divmod(step - 1, size // num_problems)
    return {"epoch": epoch, "cursor": index * num_problems, "permutation_seed": derive_seed(seed, "epoch", epoch)}


def obtain_rollout(
    path: Path,
    problems: Sequence[Problem],
    config: ResolvedStage,
    *,
    step: int,
    open_sampler: Callable[[int], AbstractContextManager[Sampler]],
    grader: Grader,
) -> list[GradedGroup]:
    """Return the graded groups of a step in the order of its problems; collective.

    A step whose rollouts are on disk is read, not sampled again: sampling is most of the cost of a step. What is
    sampled does not depend on which rank's engine took which problem.

    Args:
        path: Parquet file of the step, ``RUN/STAGE/rollouts/step-N.parquet``.
        problems: Of the step.
        config: The stage.
        step: Number of the step.
        open_sampler: Given the step, gives a sampler with the current weights that yields this rank's share of the
            groups; only called when something must be sampled.
        grader: Grades the completions of this rank.

    Raises:
        CircuitBreakerError: If too much of the step could not be graded.
    """
    in_order = _order_to_sample(path, problems)
    if in_order is None:
        return _read(path)
    params = SamplingParams(
        temperature=config.temperature,
        max_tokens=config.max_answer_tokens,
        seed=derive_seed(config.seed, config.stage, step),
    )
    params.require_untruncated()
    with open_sampler(step) as sampler:
        graded = _sample(sampler, in_order, params, config, grader)
    shares: list[list[GradedGroup]] = [[] for _ in range(dist.get_world_size())]
    dist.all_gather_object(shares, graded)
    by_problem = {each.group.problem_id: each for share in shares for each in share}
    rollout = [by_problem[problem.problem_id] for problem in problems]
    check_failures([one for each in rollout for one in each.outcomes], max_failed_share=MAX_FAILED_SHARE)
    if dist.get_rank() == 0:
        _write(path, rollout, params)
    return rollout


def visits(rollout: Sequence[GradedGroup], config: ResolvedStage, *, step: int) -> list[Visit]:
    """Return a record of what training saw of each problem."""
    return [
        Visit(
            run=config.run,
            stage=config.stage,
            step=step,
            problem_id=each.group.problem_id,
            num_samples=len(each.outcomes),
            num_correct=int(sum(each.rewards)),
            num_truncated=each.num_truncated,
            mean_tokens=each.mean_tokens,
        )
        for each in rollout
    ]


def expected_tokens(run: Path) -> dict[str, float]:
    """Return the mean length of each problem's completions at its latest visit in any stage, where it is known.

    Args:
        run: Run folder; a line that a kill cut short is not read.
    """
    logs = sorted(run.glob("*/visits.jsonl"), key=lambda log: log.stat().st_mtime_ns)
    lines = [line for log in logs for line in log.read_bytes().splitlines(keepends=True) if line.endswith(b"\n")]
    records = map(json.loads, lines)
    return {record["problem_id"]: record["mean_tokens"] for record in records if record.get("mean_tokens") is not None}


def _order_to_sample(path: Path, problems: Sequence[Problem]) -> list[Problem] | None:
    """Return the problems, those with long answers first, the same on all ranks; ``None`` if the step is on disk."""
    order: list[list[int] | None] = [None]
    if dist.get_rank() == 0 and not path.exists():
        expected = expected_tokens(path.parents[2])
        order = [longest_first(range(len(problems)), lambda index: expected.get(problems[index].problem_id))]
    dist.broadcast_object_list(order, src=0)
    return None if order[0] is None else [problems[index] for index in order[0]]


def _sample(
    sampler: Sampler,
    problems: Sequence[Problem],
    params: SamplingParams,
    config: ResolvedStage,
    grader: Grader,
) -> list[GradedGroup]:
    references = {problem.problem_id: problem.references for problem in problems}
    prompts = [
        Prompt(problem_id=problem.problem_id, text=to_prompt(problem, suffix=config.prompt_suffix))
        for problem in problems
    ]
    return [
        _grade(
            group,
            grader.grade_many([(each.text, references[group.problem_id]) for each in group.completions]),
        )
        for group in sampler.sample(prompts, params, n=config.samples_per_prompt)
    ]


def _grade(group: Group, grades: Sequence[Grade]) -> GradedGroup:
    return GradedGroup(
        group=group,
        outcomes=tuple(grade.outcome for grade in grades),
        answers=tuple(grade.answer for grade in grades),
    )


def _write(path: Path, rollout: Sequence[GradedGroup], params: SamplingParams) -> None:
    write_groups(
        path,
        [each.group for each in rollout],
        params,
        columns={
            "outcome": [str(outcome) for each in rollout for outcome in each.outcomes],
            "answer": [answer for each in rollout for answer in each.answers],
        },
    )


def _read(path: Path) -> list[GradedGroup]:
    groups = read_groups(path)
    columns = read_columns(path, ["outcome", "answer"])
    outcomes, answers = iter(columns["outcome"]), iter(columns["answer"])
    return [
        GradedGroup(
            group=group,
            outcomes=tuple(Outcome(next(outcomes)) for _ in group.completions),
            answers=tuple(next(answers) for _ in group.completions),
        )
        for group in groups
    ]
