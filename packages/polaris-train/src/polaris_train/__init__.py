"""GRPO in stages of growing context, and the whole POLARIS recipe in one command.

Each module is imported on its own, because most need torch or pydantic: `polaris_train.recipe` (recipes),
`polaris_train.stage` (running a stage), and the pure functions in `polaris_train.advantage`,
`polaris_train.loss`, `polaris_train.logprobs` and `polaris_train.packing`.
"""

from polaris_train.errors import RecipeError, RunFolderError, TrainError

__all__ = ["RecipeError", "RunFolderError", "TrainError"]
