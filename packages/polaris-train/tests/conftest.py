"""Shapes and types of the numeric functions are checked at run time while they are tested."""

from hypothesis import settings
from jaxtyping import install_import_hook

install_import_hook(
    [
        "polaris_train.grpo.advantage",
        "polaris_train.grpo.loss",
        "polaris_train.model.logprobs",
    ],
    "beartype.beartype",
)

# How long an example takes says something about the machine only.
settings.register_profile("no deadline", deadline=None)
settings.load_profile("no deadline")
