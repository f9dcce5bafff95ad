"""Model names, the files behind them, and the prompts that a model sees.

A name is a Hugging Face folder, a Hub id, or a model that an installed package carries. Everything but the tokenizer's
work reads small JSON files only, so that a wrong name or context is refused before an engine, which takes many seconds
to import, is asked for.
"""

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from polaris_rollout.errors import ModelError, PromptTooLongError

ENTRY_POINTS = "polaris_rollout.models"
"""Entry-point group: a package that carries a model names a function there that returns its folder."""

_DIGEST_BYTES = 2**20

PREFILLED_TOKENS = 16
"""Tokens at the end of a prompt that are enough to hold an opening think tag."""

_OPEN_AT_END = re.compile(r"[<\[][^<>\[\]/\s]{0,30}(?:think|thought|reason)[^<>\[\]/\s]{0,30}[>\]]\s*\Z", re.IGNORECASE)

_TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "tokenizer_config.json")


def resolve_model(model: str) -> str:
    """Return what the loaders of transformers and vLLM take for a model name.

    Args:
        model: A folder, a Hub id such as ``Qwen/Qwen3-4B``, or a carried name such as ``tiny``.

    Raises:
        ModelError: If the name is none of these, or the folder holds no usable model.
    """
    if Path(model).is_dir():
        _check_folder(Path(model))
        return model
    carried = {entry.name: entry for entry in entry_points(group=ENTRY_POINTS)}
    if model in carried:
        folder = Path(carried[model].load()())
        _check_folder(folder)
        return str(folder)
    if model.count("/") == 1 and not model.startswith((".", "/", "~")):
        return model
    raise ModelError(
        f"no model {model!r}: give a folder with config.json, a Hub id like 'Qwen/Qwen3-4B'"
        + (f", or one of {sorted(carried)}" if carried else "; the demonstration model 'tiny' comes with polaris-train")
    )


def local_folder(model: str) -> Path:
    """Return the folder of a resolved model's files; a Hub id's are downloaded first.

    Raises:
        ModelError: If there are no safetensors files, or the Hub has no such model or cannot be reached.
    """
    folder = Path(model)
    if not folder.is_dir():
        from huggingface_hub import snapshot_download

        try:
            patterns = ["*.json", "*.safetensors", "*.jinja", "*.model", "*.txt"]
            folder = Path(snapshot_download(model, allow_patterns=patterns))
        except (OSError, ValueError) as error:
            reason = " ".join(str(error).split())
            raise ModelError(f"{model!r} cannot be had from the Hub ({reason}); give a model folder") from error
    if not any(folder.glob("*.safetensors")):
        raise ModelError(f"{folder} has no safetensors files; save the model with transformers' save_pretrained")
    return folder


def model_digest(model: str) -> str | None:
    """Return a fingerprint of a resolved model's files; ``None`` for a Hub id.

    Of large files only both ends are read: training changes all weights, so these tell.
    """
    if not Path(model).is_dir():
        return None
    digest = hashlib.sha256()
    for pattern in ("*.json", "*.jinja", "*.model", "*.safetensors"):
        for path in sorted(Path(model).glob(pattern)):
            size = path.stat().st_size
            digest.update(f"{path.name}\0{size}\0".encode())
            with path.open("rb") as file:
                digest.update(file.read(_DIGEST_BYTES))
                file.seek(max(0, size - _DIGEST_BYTES))
                digest.update(file.read())
    return digest.hexdigest()[:16]


def model_config(model: str) -> dict[str, Any]:
    """Return a resolved model's configuration as its file states it; a Hub id's file is downloaded.

    Raises:
        ModelError: If the folder holds none, or the Hub has no such model or cannot be reached.
    """
    if Path(model).is_dir():
        return _read_config(Path(model))
    from transformers import PreTrainedConfig

    try:
        return PreTrainedConfig.get_config_dict(model)[0]
    except OSError as error:
        reason = " ".join(str(error).split())
        raise ModelError(f"{model!r} cannot be had from the Hub ({reason}); give a model folder") from error


def model_positions(model: str) -> int | None:
    """Return the positions a resolved model was made for; ``None`` for a Hub id, not yet known."""
    if not Path(model).is_dir():
        return None
    return _read_config(Path(model)).get("max_position_embeddings")


def stop_token_ids(model: str) -> list[int]:
    """Return the end-of-sequence tokens of a resolved model: its generation config's, or else its config's."""
    from transformers import GenerationConfig

    try:
        stop = GenerationConfig.from_pretrained(model).eos_token_id
    except OSError:  # The model has no generation config.
        stop = model_config(model).get("eos_token_id")
    return stop if isinstance(stop, list) else [] if stop is None else [stop]


def check_context(model: str, context: int | None) -> None:
    """Refuse a context that a resolved model has no positions for.

    Raises:
        ModelError: If the context is not positive or longer than the model's positions.
    """
    if context is None:
        return
    if context < 1:
        raise ModelError(f"context is {context}; give a positive number of tokens")
    positions = model_positions(model)
    if positions is not None and context > positions:
        raise ModelError(
            f"context is {context} tokens but {model} has {positions} positions (max_position_embeddings); "
            f"give a context of at most {positions}"
        )


def _check_folder(folder: Path) -> None:
    _read_config(folder)
    if not any((folder / name).is_file() for name in _TOKENIZER_FILES):
        raise ModelError(
            f"{folder} has no tokenizer ({', '.join(_TOKENIZER_FILES)}); save the model's tokenizer there too"
        )


def _read_config(folder: Path) -> dict[str, Any]:
    path = folder / "config.json"
    if not path.is_file():
        raise ModelError(f"{folder} has no config.json; give a model folder in Hugging Face format")
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ModelError(f"{path} is not JSON ({error}); save the model again") from error


def encode_prompt(tokenizer: Any, text: str) -> tuple[int, ...]:
    """Put the chat template and the generation prompt around a user turn.

    Args:
        tokenizer: A Hugging Face tokenizer; without a chat template the text itself is encoded.
        text: The turn as a person would type it.
    """
    if tokenizer.chat_template is None:
        return tuple(tokenizer.encode(text))
    return tuple(tokenizer.encode(render_prompt(tokenizer, text), add_special_tokens=False))


def render_prompt(tokenizer: Any, text: str) -> str:
    """Return the text of the prompt that a model sees for a user turn; see `encode_prompt`."""
    if tokenizer.chat_template is None:
        return text
    return tokenizer.apply_chat_template(
        [{"role": "user", "content": text}], add_generation_prompt=True, tokenize=False
    )


def prefilled_think(prompt: str) -> str:
    """Return the opening think tag that a prompt ends with, such as ``<think>``; nothing if it ends otherwise."""
    found = _OPEN_AT_END.search(prompt)
    return found[0] if found else ""


def prompt_counter(model: str) -> Callable[[str], int]:
    """Return a function that counts the tokens of the prompt that a model sees for a user turn.

    Args:
        model: A folder, a Hub id or a carried name.

    Raises:
        ModelError: If there is no such model.
    """
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(resolve_model(model), model_max_length=10**9)  # it warns beyond it
    return lambda text: len(encode_prompt(tokenizer, text))


def check_lengths(lengths: Mapping[str, int], *, context: int, max_tokens: int | None) -> None:
    """Refuse prompts that leave no room for an answer: for ``max_tokens``, or for one token.

    Args:
        lengths: Tokens of each prompt, by problem.
        context: Longest prompt and completion together, in tokens.
        max_tokens: Longest completion.

    Raises:
        PromptTooLongError: Naming the prompts, their lengths, and the context they need.
    """
    answer = max_tokens or 1
    if too_long := {key: length for key, length in lengths.items() if length > context - answer}:
        examples = ", ".join(f"{key!r} ({length} tokens)" for key, length in list(too_long.items())[:5])
        raise PromptTooLongError(
            f"{len(too_long)} of {len(lengths)} prompts leave no room for {answer} answer tokens in a context of "
            f"{context}: {examples}{', ...' if len(too_long) > 5 else ''}; raise --context to "
            f"{max(too_long.values()) + answer}, lower --max-tokens, or remove them"
        )
