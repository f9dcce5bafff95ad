"""How a released model is sampled when nobody says otherwise: what vLLM and transformers read from its folder."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from polaris_data.files import write_json
from polaris_rollout import text_config, yarn_config

from polaris_train.errors import ReleaseError


@dataclass(frozen=True, slots=True, kw_only=True)
class Inference:
    """What the folder of a released model says about sampling."""

    temperature: float
    """Of sampling; 0 takes the most likely token."""

    top_k: int
    """Most likely tokens that are kept; 0 keeps all."""

    top_p: float = 1.0
    """Nucleus mass."""

    context: int | None = None
    """Longest prompt and completion together, in tokens: beyond the model's positions by YaRN, its attention
    temperature cancelled. ``None`` leaves the positions as they are."""

    def check(self) -> None:
        """Refuse what no engine samples with.

        Raises:
            ReleaseError: Naming the value.
        """
        if not 0 <= self.temperature <= 10:
            raise ReleaseError(f"temperature is {self.temperature:g}; give 0 for the most likely token, or up to 10")
        if self.top_k < 0:
            raise ReleaseError(f"top_k is {self.top_k}; give the number of most likely tokens kept, or 0 for all")


def write_inference(folder: Path, inference: Inference) -> dict[str, Any]:
    """Write sampling into ``generation_config.json`` and the context into ``config.json``.

    Both libraries read both files: ``vllm serve`` without flags and transformers' ``generate`` sample alike. The
    stop tokens of the model stay.

    Args:
        folder: Of the model, changed in place.
        inference: What to say.

    Returns:
        The rotary parameters of YaRN; nothing where the context needs none.

    Raises:
        ModelError: If YaRN cannot cover the context.
    """
    path = folder / "generation_config.json"
    written: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    for name in ("temperature", "top_k", "top_p", "min_p", "do_sample"):
        written.pop(name, None)
    if inference.temperature:
        cut = {"top_k": inference.top_k, "top_p": inference.top_p}  # Left out, transformers keeps 50 tokens.
        written |= {"do_sample": True, "temperature": inference.temperature, **cut}
    else:
        written |= {"do_sample": False, "temperature": 0.0}
    config_path = folder / "config.json"
    config: dict[str, Any] = json.loads(config_path.read_text(encoding="utf-8"))
    if "eos_token_id" not in written and config.get("eos_token_id") is not None:
        written["eos_token_id"] = config["eos_token_id"]
    write_json(path, written)
    text = text_config(config)
    yarn = yarn_config(text, inference.context)
    if yarn:
        # An older table beside the new one would win in some readers.
        older = ("rope_scaling", "rope_theta")
        kept = {key: value for key, value in text.items() if key not in older} | yarn
        write_json(config_path, kept if text is config else config | {"text_config": kept})
        _raise_tokenizer_length(folder / "tokenizer_config.json", yarn["max_position_embeddings"])
    return yarn.get("rope_parameters", {})


def _raise_tokenizer_length(path: Path, context: int) -> None:
    """Let the tokenizer take as many tokens as the model: vLLM serves no more than it says."""
    config = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    if config.get("model_max_length", context) < context:
        write_json(path, config | {"model_max_length": context})
