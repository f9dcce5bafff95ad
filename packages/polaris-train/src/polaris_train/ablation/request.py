"""What an ablation is asked for, and what is where in its folder."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from polaris_train.ablation.arms import Arm, arm_recipe, arms_of
from polaris_train.controller import Request
from polaris_train.recipe import Recipe, load_recipe
from polaris_train.run_folder import RunFolder


@dataclass(frozen=True, slots=True, kw_only=True)
class Ablation:
    """Which arms of which recipe, how often, and where."""

    recipe: Recipe
    """The full one."""

    arms: tuple[Arm, ...]
    """In the order of the table."""

    seeds: tuple[int, ...]
    """Of the runs of each arm."""

    out: Path
    """``ablations/NAME``."""

    tokens: int | None = None
    """That each run samples; ``None``: as many as the full recipe of its seed."""

    @property
    def known(self) -> dict[str, Arm]:
        """All arms of the recipe by name, in the order of the table."""
        return arms_of(self.recipe)

    @property
    def settings(self) -> Path:
        """What tells one ablation from another."""
        return self.out / "settings.json"

    @property
    def results(self) -> tuple[Path, Path, Path]:
        """Numbers, text and page."""
        return self.out / "ablation.json", self.out / "ablation.md", self.out / "ablation.html"

    @property
    def to_run(self) -> tuple[Arm, ...]:
        """The arms in the order in which they run: first the one that says what a seed may cost."""
        first = () if self.tokens is not None else (self.known["full"],)
        return (*first, *(arm for arm in self.arms if arm not in first))

    def recipe_file(self, arm: Arm) -> Path:
        """Return the TOML file of an arm."""
        return self.out / "arms" / f"{arm.name}.toml"

    def arm_recipe(self, arm: Arm) -> Recipe:
        """Return the recipe of an arm; the full one ends its stages itself where it is the measure of cost."""
        return arm_recipe(self.recipe, arm, limited=self.tokens is not None or arm.name != "full")

    def folder(self, arm: Arm, seed: int) -> RunFolder:
        """Return a run's folder."""
        return RunFolder(self.out / arm.name / f"seed-{seed}")

    def run(self, arm: Arm, seed: int, overrides: Sequence[str]) -> Request:
        """Return what ``polaris run`` is asked for."""
        file, overrides = str(self.recipe_file(arm)), (f"seed={seed}", *overrides)
        return Request(
            recipe=load_recipe(file, list(overrides)),
            argument=file,
            overrides=tuple(overrides),
            folder=self.folder(arm, seed),
        )
