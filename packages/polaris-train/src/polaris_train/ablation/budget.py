"""Sampled tokens: what an arm has spent, and what its next stage may.

Everything that is sampled to train counts: the profile, the searches for a temperature, the rollouts. Evaluations,
those on held-out problems inside a stage too, are measurement and do not.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass

from polaris_data.profile import read_profile

from polaris_train.errors import RecipeError
from polaris_train.recipe import Recipe
from polaris_train.run_folder import RunFolder, read_records


@dataclass(frozen=True, slots=True, kw_only=True)
class Spent:
    """Tokens that a run has sampled so far."""

    profile: int
    temperature: Mapping[str, int]
    """By stage."""

    training: Mapping[str, int]
    """By stage."""

    @property
    def total(self) -> int:
        """All of them."""
        return self.profile + sum(self.temperature.values()) + sum(self.training.values())


def spent_tokens(folder: RunFolder, recipe: Recipe) -> Spent:
    """Return what a run has sampled so far.

    Args:
        folder: Of the run.
        recipe: That it is of.
    """
    profile = read_profile(folder.profile) if folder.profile.exists() else []
    stages = {stage.name: folder.stage(stage.name) for stage in recipe.stages}
    searches = {name: own.temperature for name, own in stages.items() if own.temperature.exists()}
    return Spent(
        profile=sum(round((each.mean_tokens or 0.0) * each.num_samples) for each in profile),
        temperature={
            name: json.loads(path.read_text(encoding="utf-8"))["sampled_tokens"] for name, path in searches.items()
        },
        training={
            name: sum(step.get("sampled_tokens", 0) for step in read_records(own.metrics))
            for name, own in stages.items()
        },
    )


def stage_limit(budget: int, spent: Spent, recipe: Recipe, index: int, *, like: Mapping[str, int] | None) -> int:
    """Return how many tokens a stage may sample, when everything before it is done.

    The last stage takes what is left. A stage before it takes what the full recipe's stage of its name took, or, where
    nothing is like it, an equal share of what is left.

    Args:
        budget: Of the whole run.
        spent: So far; what this stage and later ones trained does not count.
        recipe: Of the run.
        index: Of the stage.
        like: Tokens that the stages of the full recipe trained on.

    Raises:
        RecipeError: If nothing is left.
    """
    names = [stage.name for stage in recipe.stages]
    found = sum(spent.temperature.get(name, 0) for name in names[: index + 1])
    trained = sum(spent.training.get(name, 0) for name in names[:index])
    left = budget - spent.profile - found - trained
    if left < 1:
        raise RecipeError(
            f"{recipe.name}: {budget - left:,} tokens are sampled before {names[index]} trains, and the budget is "
            f"{budget:,}; give more --tokens, or lower data.profile_samples and temperature.answers"
        )
    if index == len(names) - 1:
        return left
    if like is not None:
        return min(like[names[index]], left)
    return max(1, left // (len(names) - index))
