"""GRPO in stages of growing context, and the whole POLARIS recipe in one command.

Each module is imported on its own, because most need torch or pydantic: `polaris_train.recipe` (recipes),
`polaris_train.stage.launch` (running a stage), and the pure functions in `polaris_train.grpo.advantage`,
`polaris_train.grpo.loss`, `polaris_train.model.logprobs` and `polaris_train.model.packing`.
"""

from polaris_train.errors import RecipeError, RunFolderError, TrainError

__all__ = ["RecipeError", "RunFolderError", "TrainError"]
