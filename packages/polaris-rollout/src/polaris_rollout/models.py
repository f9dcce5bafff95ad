"""Model names, the files behind them, and the prompts that a model sees.

A name is a Hugging Face folder, a Hub id, or a model that an installed package carries. Everything but the tokenizer's
work reads small JSON files only, so that a wrong name or context is refused before an engine, which takes many seconds
to import, is asked for.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from polaris_rollout.errors import ModelError, PromptTooLongError
from polaris_rollout.records import USER_TURN, ChatFormat, SamplingParams

ENTRY_POINTS = "polaris_rollout.models"
"""Entry-point group: a package that carries a model names a function there that returns its folder."""

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
    _read_config(folder)
    return folder


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
    return text_config(_read_config(Path(model))).get("max_position_embeddings")


def text_config(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return what a configuration says of the part that reads and writes text, of a model that also sees; else all."""
    return config.get("text_config") or config


def generation_params(model: str, seed: int = 0) -> SamplingParams:
    """Return how the makers of a model sample it: what its ``generation_config.json`` says.

    What the file leaves out cuts nothing off, as in vLLM. ``do_sample: false`` is temperature 0.

    Raises:
        ModelError: If the model has no such file, or it changes probabilities in a way that is not offered here.
    """
    folder = resolve_model(model)
    path = local_folder(folder) / "generation_config.json"
    if not path.is_file():
        raise ModelError(f"{model!r} has no generation_config.json; give --temperature, --top-p and --top-k yourself")
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ModelError(f"{path} is not JSON ({error}); save the model again") from error
    neutral = {"repetition_penalty": 1.0, "no_repeat_ngram_size": 0, "typical_p": 1.0, "num_beams": 1}
    if other := {name: config[name] for name, off in neutral.items() if config.get(name) not in (None, off)}:
        raise ModelError(
            f"{path} asks for {other}, which is not offered here; give --temperature, --top-p and --top-k yourself"
        )
    names = {name: config.get(name) for name in ("temperature", "top_p", "top_k", "min_p")}
    given: dict[str, Any] = {name: value for name, value in names.items() if value is not None}
    if config.get("do_sample") is False:
        given["temperature"] = 0.0
    return SamplingParams(seed=seed, **given)


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
    if not path.is_file() and (folder / "adapter_config.json").is_file():
        merged = folder.parent if (folder.parent / "config.json").is_file() else None
        remedy = f"give {merged}" if merged else f"write it with 'polaris-train export {folder} --out MODEL'"
        raise ModelError(f"{folder} holds adapters alone, and a run starts from a model with them merged: {remedy}")
    if not path.is_file():
        raise ModelError(f"{folder} has no config.json; give a model folder in Hugging Face format")
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ModelError(f"{path} is not JSON ({error}); save the model again") from error


def chat_template(folder: Path) -> str | list[Any] | None:
    """Return the chat template in a model's folder, as its file states it; ``None`` where it has none."""
    jinja, config = folder / "chat_template.jinja", folder / "tokenizer_config.json"
    if jinja.is_file():
        return jinja.read_text(encoding="utf-8")
    return json.loads(config.read_text(encoding="utf-8")).get("chat_template") if config.is_file() else None


def check_chat(model: str, template: str | list[Any] | None, chat: ChatFormat) -> None:
    """Refuse what a model's chat template has no place for.

    Args:
        model: Its name, for the message.
        template: As `chat_template` returns it.
        chat: What is to stand around user turns.

    Raises:
        ModelError: If there is no template, or it never mentions an argument.
    """
    if template is None and (chat.system_prompt or chat.arguments):
        raise ModelError(
            f"{model} has no chat template, so there is no place for a system prompt or for arguments of the template; "
            "leave them out, or put the text before the question"
        )
    if unknown := [name for name in chat.arguments if not re.search(rf"\b{re.escape(name)}\b", str(template))]:
        raise ModelError(
            f"the chat template of {model} never mentions {unknown[0]!r}, so that would change nothing; leave it out "
            "or correct its name"
        )


def encode_prompt(tokenizer: Any, text: str, chat: ChatFormat = USER_TURN) -> tuple[int, ...]:
    """Put the chat template and the generation prompt around a user turn.

    Args:
        tokenizer: A Hugging Face tokenizer; without a chat template the text itself is encoded.
        text: The turn as a person would type it.
        chat: What else stands around it.

    Raises:
        ModelError: If the template cannot take what stands around it.
    """
    if tokenizer.chat_template is None or chat.is_plain:
        return tuple(tokenizer.encode(render_prompt(tokenizer, text, chat)))
    return tuple(tokenizer.encode(render_prompt(tokenizer, text, chat), add_special_tokens=False))


def encode_prompts(tokenizer: Any, texts: Sequence[str], chat: ChatFormat = USER_TURN) -> list[tuple[int, ...]]:
    """Return what `encode_prompt` does for each text, many times as fast: a tokenizer shares them among threads."""
    special = tokenizer.chat_template is None or chat.is_plain
    rendered = [render_prompt(tokenizer, text, chat) for text in texts]
    return [tuple(ids) for ids in tokenizer(rendered, add_special_tokens=special)["input_ids"]] if rendered else []


def render_prompt(tokenizer: Any, text: str, chat: ChatFormat = USER_TURN) -> str:
    """Return the text of the prompt that a model sees for a user turn; see `encode_prompt`."""
    if tokenizer.chat_template is None or chat.is_plain:
        return text
    try:
        rendered = tokenizer.apply_chat_template(
            chat.messages(text), add_generation_prompt=True, tokenize=False, **chat.arguments
        )
    except (ValueError, TypeError, KeyError, _template_error()) as error:
        raise ModelError(
            f"the chat template cannot be filled in with {chat.settings()} ({error}); leave out what it does not take"
        ) from error
    if chat.system_prompt.strip() not in rendered:
        raise ModelError(
            f"the chat template leaves out the system prompt {chat.system_prompt!r}; put it before the question instead"
        )
    return rendered


def _template_error() -> type[Exception]:
    from jinja2 import TemplateError  # which comes with transformers

    return TemplateError


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
