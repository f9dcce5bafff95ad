"""Whether a model can be trained, by its configuration alone: asked before anything is sampled."""

from polaris_rollout import model_config, text_config

from polaris_train.model.architecture import TESTED, check_architecture


def check_model(model: str, *, name: str | None = None, context_parallel: int | None = None) -> None:
    """Refuse a model that could not be trained, by its configuration alone: its weights need not be there.

    Args:
        model: A folder or a Hub id.
        name: For the message, where it is another.
        context_parallel: As of `check_architecture`.

    Raises:
        ModelError: Saying what to do instead.
    """
    config = text_config(model_config(model))
    check_architecture(config, model=name or model, context_parallel=context_parallel)
    if config.get("model_type") not in TESTED:
        from polaris_train.model.loading import check_parts  # takes seconds: it needs torch

        check_parts(model, name=name or model)
