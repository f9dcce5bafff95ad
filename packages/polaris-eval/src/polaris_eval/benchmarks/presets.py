"""Settings that others published for their models, to be run by name; each with where it is written."""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from polaris_data import PROMPT_SUFFIX

from polaris_eval.errors import SettingError

STEP_BY_STEP = r"Please reason step by step, and put your final answer within \boxed{}."
"""The request that the makers of Qwen and DeepSeek recommend for mathematics."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Preset:
    """Published settings of an evaluation; of each an option wins that is given explicitly."""

    source: str
    """Where they are written."""

    temperature: float
    """0 takes the most likely token."""

    top_p: float = 1.0
    """Nucleus mass; 1 keeps all."""

    top_k: int = 0
    """Most likely tokens kept; 0 keeps all."""

    max_tokens: int
    """Longest completion."""

    context: int | None = None
    """Prompt and completion together; ``None`` is the model's own."""

    suffix: str = PROMPT_SUFFIX
    """After every question."""

    system_prompt: str = ""
    """Before it; empty for none."""

    chat_arguments: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """Of the chat template."""


PRESETS: Mapping[str, Preset] = {
    "polaris-4b": Preset(
        source="README and scripts/eval of ChenxinAn-fdu/POLARIS; the context of 96,000 is reached with YaRN",
        temperature=1.4,
        top_k=20,
        max_tokens=90_000,
        context=96_000,
    ),
    "qwen3-thinking": Preset(
        source="model card of Qwen/Qwen3-4B, best practices",
        temperature=0.6,
        top_p=0.95,
        top_k=20,
        max_tokens=32_768,
        suffix=f" {STEP_BY_STEP}",
    ),
    "qwen3-non-thinking": Preset(
        source="model card of Qwen/Qwen3-4B, best practices",
        temperature=0.7,
        top_p=0.8,
        top_k=20,
        max_tokens=32_768,
        suffix=f" {STEP_BY_STEP}",
        chat_arguments={"enable_thinking": False},
    ),
    "deepseek-r1": Preset(
        source="model card of deepseek-ai/DeepSeek-R1, evaluation and usage recommendations",
        temperature=0.6,
        top_p=0.95,
        max_tokens=32_768,
        suffix=f" {STEP_BY_STEP}",
    ),
    "qwen2.5-math": Preset(
        source="evaluation/sh/eval.sh of QwenLM/Qwen2.5-Math with the prompt qwen25-math-cot",
        temperature=0.0,
        max_tokens=2048,
        suffix="",
        system_prompt=STEP_BY_STEP,
    ),
}
"""By the name that a user types."""


def find_preset(name: str) -> Preset:
    """Return the preset of a name.

    Raises:
        SettingError: If there is none; the closest name is told.
    """
    if name in PRESETS:
        return PRESETS[name]
    close = difflib.get_close_matches(name.lower(), PRESETS, n=1, cutoff=0.5)
    hint = f"did you mean {close[0]!r}? " if close else ""
    raise SettingError(f"no preset {name!r}; {hint}Give one of: {', '.join(PRESETS)}")
