"""A stage's curriculum: which problems it is about, which it sees again, and what helps with the hardest."""

from collections.abc import Iterable

from polaris_data import DataError
from polaris_data.selection import parse_rule
from pydantic import BaseModel, ConfigDict, Field

from polaris_train.recipe.objective import is_off


class Curriculum(BaseModel):
    """How a stage goes over its problems; by default all that are left for it, each once in a pass."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    select: tuple[str, ...] = Field(default=(), exclude_if=is_off)
    """Rules of this stage alone, as ``polaris-data select --rule`` takes them, such as ``keep level=Level 3,Level 4``
    or ``accuracy between 0.1 0.8``, on top of what is dropped between stages. The evidence is what earlier stages saw
    of a problem, else its profile."""

    hint_share: float = Field(default=0.0, ge=0, lt=1, exclude_if=is_off)
    """Put so much of its solution into the prompt of each problem that was never solved, cut before the answer; needs
    the column ``solution``. Evaluations have no hints. QuestA (arXiv 2507.13266): 0.5, then 0.25."""

    revisit_below: float = Field(default=0.0, ge=0, le=1, exclude_if=is_off)
    """After each pass over the problems, go once more over those that were solved in a smaller share of its attempts,
    with other sampling seeds; 0: never."""

    refill_below: float = Field(default=0.0, ge=0, le=1, exclude_if=is_off)
    """Sample further problems within a step until so large a share of ``prompts_per_step`` groups is informative, or
    as many problems again have been sampled; 0: never. As prime-rl's gate and DAPO's dynamic sampling."""


def check_curricula(stages: Iterable[tuple[int, Curriculum]], *, sampling_ahead: int) -> None:
    """Refuse rules that cannot be read, and what cannot be while later steps are sampled already.

    Args:
        stages: With their numbers.
        sampling_ahead: Of the recipe.

    Raises:
        ValueError: With the path in the recipe.
    """
    for index, stage in stages:
        for place, line in enumerate(stage.select):
            try:
                parse_rule(line)
            except DataError as error:
                raise ValueError(f"stages.{index}.select.{place}: {error}") from error
        for name in ("revisit_below", "refill_below"):
            if sampling_ahead and getattr(stage, name):
                raise ValueError(
                    f"stages.{index}.{name} is {getattr(stage, name):g}, which asks how a step went before more is "
                    f"sampled, but sampling_ahead is {sampling_ahead}; set one of them to 0"
                )
