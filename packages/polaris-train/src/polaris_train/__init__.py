"""GRPO in stages of growing context, and the whole POLARIS recipe in one command.

Each module is imported on its own, because most need torch or pydantic: `polaris_train.recipe` (recipes),
`polaris_train.stage.launch` (running a stage), the numerics of `polaris_train.grpo`, and `polaris_train.model`.
"""

from polaris_train.errors import RecipeError, RunFolderError, TrainError

__all__ = ["RecipeError", "RunFolderError", "TrainError"]
