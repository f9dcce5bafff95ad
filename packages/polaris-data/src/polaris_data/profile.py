"""Profiling: how often a model solves each problem.

Needs the extra ``profile``. Whatever was finished before a kill is kept, and only the rest is sampled.
"""

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from polaris_data.errors import MissingExtraError, OtherRunError
from polaris_data.journal import Journal
from polaris_data.problems import content_hash
from polaris_data.prompt import PROMPT_SUFFIX, to_prompt
from polaris_data.records import Difficulty, Problem

try:
    from polaris_reward.records import Grade, Outcome
    from polaris_rollout.models import model_digest, resolve_model
    from polaris_rollout.progress import track
    from polaris_rollout.records import Group, Prompt, Sampler, SamplingParams
except ImportError as error:
    raise MissingExtraError(
        f"profiling needs polaris-reward and polaris-rollout: pip install 'polaris-data[profile]>=2026.11' ({error})"
    ) from error

logger = logging.getLogger(__name__)

GradeMany = Callable[[Sequence[tuple[str, Sequence[str]]]], Sequence[Grade]]
"""Grades responses against their references, in order: ``polaris_reward.Grader.grade_many`` is one."""


@dataclass(frozen=True, slots=True)
class TrackedSampler:
    """A sampler that shows its progress on stderr."""

    sampler: Sampler
    """Does the work."""

    total: int
    """Groups of the whole job."""

    done: int = 0
    """Groups that an earlier run finished."""

    def sample(self, prompts: Iterable[Prompt], params: SamplingParams, *, n: int) -> Iterator[Group]:
        """Yield the sampler's groups, moving the bar."""
        groups = self.sampler.sample(prompts, params, n=n)
        return track(groups, total=self.total, done=self.done, label="profiling")


def profile(
    problems: Sequence[Problem],
    sampler: Sampler,
    grade_many: GradeMany,
    *,
    params: SamplingParams,
    num_samples: int,
    journal: Journal,
    suffix: str = PROMPT_SUFFIX,
) -> Iterator[Difficulty]:
    """Sample every problem, grade the answers, and yield how often each one was solved.

    Problems that the journal holds are yielded first and not sampled again; every other group is written to
    the journal before it is yielded. When the last one is out, the journal is finished in the order of the
    problems, so that its file depends on the completions alone.

    Args:
        problems: Problems with distinct ids.
        sampler: Draws the completions.
        grade_many: Grades them.
        params: How completions are drawn.
        num_samples: Completions for each problem.
        journal: Of this very job: same problems, model and parameters.
        suffix: Put after every question.

    Raises:
        OtherRunError: If the journal holds a problem that is not among these.
        ValueError: If ``num_samples`` is not positive.
    """
    if num_samples < 1:
        raise ValueError(f"num_samples is {num_samples}; give 1 or more")
    positions = {problem.problem_id: position for position, problem in enumerate(problems)}
    done = [Difficulty(**record) for record in journal.records]
    _refuse_other_problems(done, positions, journal)
    yield from done
    waiting = positions.keys() - {difficulty.problem_id for difficulty in done}
    prompts = to_prompts([problem for problem in problems if problem.problem_id in waiting], suffix=suffix)
    if prompts:
        for group in sampler.sample(prompts, params, n=num_samples):
            problem = problems[positions[group.problem_id]]
            difficulty = _measure(group, problem, grade_many)
            journal.append(asdict(difficulty))
            yield difficulty
    journal.finish(lambda record: positions[record["problem_id"]])


def profile_settings(
    problems: Sequence[Problem],
    *,
    model: str,
    context: int | None,
    params: SamplingParams,
    num_samples: int,
    suffix: str = PROMPT_SUFFIX,
) -> dict[str, Any]:
    """Return everything that a profile depends on: what `polaris_data.outputs.claim_output` records beside it."""
    return {
        "command": "polaris-data profile",
        "problems": content_hash(problems),
        "num_problems": len(problems),
        "model": model,
        "model_digest": model_digest(resolve_model(model)),
        "context": context,
        "num_samples": num_samples,
        **asdict(params),
        "suffix": suffix,
    }


def to_prompts(problems: Iterable[Problem], *, suffix: str = PROMPT_SUFFIX) -> list[Prompt]:
    """Return what is sent to the sampler for each problem."""
    return [Prompt(problem_id=problem.problem_id, text=to_prompt(problem, suffix=suffix)) for problem in problems]


def _refuse_other_problems(done: Iterable[Difficulty], positions: dict[str, int], journal: Journal) -> None:
    for difficulty in done:
        if difficulty.problem_id not in positions:
            raise OtherRunError(
                f"{journal.path} has a profile of {difficulty.problem_id!r}, which is not among the problems; "
                "choose another --out or remove it"
            )


def _measure(group: Group, problem: Problem, grade_many: GradeMany) -> Difficulty:
    completions = group.completions
    grades = grade_many([(completion.text, problem.references) for completion in completions])
    if any(grade.outcome is Outcome.REFERENCE_REJECTED for grade in grades):
        logger.warning(
            "%s: the grader cannot read the reference %r; its profile means nothing",
            problem.problem_id,
            problem.references,
        )
    return Difficulty(
        problem_id=problem.problem_id,
        num_samples=len(completions),
        num_correct=sum(grade.outcome is Outcome.CORRECT for grade in grades),
        num_truncated=sum(completion.finish_reason == "length" for completion in completions),
        mean_tokens=sum(len(completion.token_ids) for completion in completions) / len(completions),
    )
