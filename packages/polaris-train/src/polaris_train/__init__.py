"""GRPO in stages of growing context, and the whole POLARIS recipe in one command.

The pure functions are in modules of their own (`polaris_train.advantage`, `polaris_train.loss`,
`polaris_train.logprobs`, `polaris_train.packing`), because they need torch, which takes seconds to import.
"""

from polaris_train.errors import RecipeError, RunFolderError, TrainError
from polaris_train.recipe import Recipe, Stage, load_recipe, packaged_recipes

__all__ = ["Recipe", "RecipeError", "RunFolderError", "Stage", "TrainError", "load_recipe", "packaged_recipes"]
