"""The teacher of a stage: checked before anything starts, then asked for the log-probabilities of what was sampled."""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import torch
import torch.distributed as dist
from polaris_rollout import (
    EndpointError,
    check_context,
    local_folder,
    model_config,
    model_digest,
    resolve_model,
    text_config,
)
from polaris_rollout.servers import TokenScorer
from transformers import AutoTokenizer

from polaris_train.errors import RecipeError
from polaris_train.grpo.updating import Teacher
from polaris_train.model.architecture import check_architecture
from polaris_train.model.attempts import fitting
from polaris_train.model.loading import load_policy
from polaris_train.model.packing import TrainingSequence
from polaris_train.model.step import StepSettings, sequence_logprobs
from polaris_train.recipe import Recipe
from polaris_train.resolved import ResolvedStage
from polaris_train.stage.settings import update_settings

_TRIES, _DEADLINE_S = 3, 60.0
"""How often a server is asked before a stage is prepared, and how long it is waited for; later it may take its time."""

_PROBE = "Let x_1 = -\\frac{3}{14} and \\boxed{\\sqrt{2}}; then 1,024 + 0.5 = 1024.5. Ça va? 因此答案是 7.\n\n\t"
"""Words, formulas, digits and other scripts, which no two vocabularies cut up alike."""


def check_teacher(recipe: Recipe, *, student: str, context: int) -> str | None:
    """Return the fingerprint of the files of a recipe's teacher; ``None`` without one, and for one on a server.

    Args:
        recipe: That names it.
        student: Folder of the model that learns from it.
        context: Of the stage.

    Raises:
        RecipeError: If a token means something else to it than to the student, or a server does not do.
        ModelError: If it is not there, or has not so many positions.
    """
    if recipe.distillation is None:
        return None
    if recipe.distillation.is_served:
        _check_served(recipe.distillation.teacher, student=student, context=context)
        return None
    teacher = resolve_model(recipe.distillation.teacher)
    if not recipe.extend_positions:
        check_context(teacher, context)
    config = text_config(model_config(teacher))
    check_architecture(config, model=teacher, context_parallel=recipe.context_parallel)
    _refuse_other_vocabulary(_vocabulary(student), _vocabulary(teacher), teacher=teacher, student=student)
    if (size := config.get("vocab_size", 0)) <= (largest := max(_vocabulary(student).values())):
        raise RecipeError(f"{teacher} knows {size:,} tokens, but {student} may sample token {largest:,}; give another")
    return model_digest(str(local_folder(teacher)))


def open_teacher(config: ResolvedStage, device: torch.device, stack: ExitStack) -> Teacher | None:
    """Return what gives the log-probabilities that a stage's distillation asks for, if it does; collective.

    Args:
        config: The stage.
        device: Of this rank.
        stack: Closes what is opened.

    Raises:
        RecipeError: If a server cuts texts up into other tokens than the policy's tokenizer.
    """
    if config.distillation is None:
        return None
    if config.distillation.is_served:
        return _served(config, stack)
    teacher = load_policy(
        resolve_model(config.distillation.teacher),
        device=device,
        context=config.context,
        precision=config.precision,
        cpu_offload=bool(config.cpu_offload),
        frozen=True,
        context_parallel=config.context_parallel or 1,
    )
    settings: StepSettings = update_settings(config)[2]
    return lambda sequences: fitting([teacher], settings, lambda: sequence_logprobs(teacher, sequences, settings))


def _check_served(address: str, *, student: str, context: int) -> None:
    """Refuse a server that is down, has another vocabulary or too little room, or gives no log-probabilities."""
    scorer = TokenScorer(address, num_tries=_TRIES, deadline_s=_DEADLINE_S)
    try:
        tokens = _common_tokens(scorer, address, student)
        room = scorer.context()
        if room is not None and room <= context:
            raise RecipeError(
                f"distillation.teacher: {address} has a context of {room:,} tokens, but needs {context + 1:,}: one "
                "more than the stage, since it samples a token after what it is asked about; restart it with "
                f"--max-model-len {context + 1}"
            )
        scorer.logprobs([(tokens[:1], tokens[1:2])])
    except EndpointError as error:
        raise RecipeError(f"distillation.teacher: {error}") from error
    finally:
        scorer.close()


def _common_tokens(scorer: TokenScorer, address: str, student: str) -> list[int]:
    """Return what server and student both make of the probe.

    Raises:
        RecipeError: If they do not agree.
    """
    tokenizer: Any = AutoTokenizer.from_pretrained(local_folder(student))
    text = _PROBE + "".join(tokenizer.get_added_vocab())
    tokens = scorer.tokens(text)
    if tokens != tokenizer.encode(text, add_special_tokens=False):
        raise RecipeError(
            f"distillation.teacher: {address} has another vocabulary than {student}, so that it cannot judge its "
            "tokens; serve a teacher of the same family, or fine-tune on the teacher's answers "
            '(kind = "sft")'
        )
    return tokens


def _served(config: ResolvedStage, stack: ExitStack) -> Teacher:
    """Let rank 0 ask the server, and tell the others."""
    assert config.distillation is not None
    scorer = TokenScorer(config.distillation.teacher) if dist.get_rank() == 0 else None
    if scorer is not None:
        stack.callback(scorer.close)
        # Another may stand there than when the stage was prepared.
        _common_tokens(scorer, config.distillation.teacher, config.model)

    def ask(sequences: Sequence[TrainingSequence]) -> list[tuple[float, ...]]:
        found: list[Any] = [scorer and scorer.logprobs([(one.prompt_token_ids, one.token_ids) for one in sequences])]
        dist.broadcast_object_list(found, src=0)
        return found[0]

    return ask


def _vocabulary(model: str) -> dict[str, int]:
    tokenizer: Any = AutoTokenizer.from_pretrained(local_folder(model))
    return tokenizer.get_vocab()


def _refuse_other_vocabulary(own: Mapping[str, int], other: Mapping[str, int], *, teacher: str, student: str) -> None:
    """Refuse a teacher to whom a token of the student means something else; it may know more tokens."""
    different = [(number, token) for token, number in own.items() if other.get(token) != number]
    if different:
        number, token = min(different)
        raise RecipeError(
            f"{teacher} has another vocabulary than {student}: {len(different):,} of {len(own):,} tokens differ, such "
            f"as {number} ({token!r}); distil from a teacher of the same family, or fine-tune on the teacher's answers "
            '(kind = "sft")'
        )
