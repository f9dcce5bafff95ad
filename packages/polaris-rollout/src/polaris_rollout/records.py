"""What goes into a sampler and what comes out of it; standard library only."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from polaris_rollout.errors import SettingError

if TYPE_CHECKING:
    pass

MAX_TEMPERATURE = 2.0
"""vLLM refuses to sample at a higher one."""

PROMPT_SUFFIX = r" Let's think step by step and output the final answer within \boxed{}."
"""What training and evaluation append to every problem, as the published evaluation does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingParams:
    """How completions are drawn; the log-probabilities are those of this very distribution."""

    temperature: float = 1.0
    """Divides the logits; at most 2, and 0 takes the most likely token."""

    top_p: float = 1.0
    """Nucleus mass; 1 keeps every token. Training needs 1."""

    top_k: int = 0
    """Most likely tokens kept; 0 keeps every token. Training needs 0."""

    max_tokens: int | None = None
    """Longest completion, in tokens; ``None`` fills the context."""

    seed: int = 0
    """Of the whole request; every completion derives its own with `completion_seed`."""

    min_p: float = 0.0
    """Tokens less likely than this share of the most likely one are left out; 0 keeps every token. Training needs 0."""

    stop: tuple[str, ...] = ()
    """Texts that end a completion, which then stand in its tokens and not in its text. Training needs none."""

    def __post_init__(self) -> None:
        if not 0 <= self.temperature <= MAX_TEMPERATURE:
            raise SettingError(f"temperature is {self.temperature!r}; give 0 to {MAX_TEMPERATURE:g}")
        if not 0 < self.top_p <= 1:
            raise SettingError(f"top_p is {self.top_p!r}; give a number in (0, 1]")
        if self.top_k < 0:
            raise SettingError(f"top_k is {self.top_k!r}; give 0 (off) or more")
        if self.max_tokens is not None and self.max_tokens < 1:
            raise SettingError(f"max_tokens is {self.max_tokens!r}; give 1 or more")
        if not 0 <= self.min_p < 1:
            raise SettingError(f"min_p is {self.min_p!r}; give 0 (off) or a number below 1")
        if "" in self.stop:
            raise SettingError("a stop string is empty, which would end every completion at once; leave it out")

    def settings(self) -> dict[str, Any]:
        """Return everything, fit for JSON, as folders are claimed with; what came later only where it is set."""
        later = {"min_p": self.min_p or None, "stop": list(self.stop) or None}
        first = {name: value for name, value in asdict(self).items() if name not in later}
        return first | {name: value for name, value in later.items() if value is not None}

    def require_untruncated(self) -> None:
        """Refuse a truncated distribution: for training, importance ratios would carry the mass that was cut off.

        Raises:
            SettingError: If ``top_p``, ``top_k`` or ``min_p`` cuts anything off, or a text ends completions.
        """
        if self.top_p < 1 or self.top_k > 0 or self.min_p > 0:
            raise SettingError(
                f"top_p is {self.top_p!r}, top_k is {self.top_k!r} and min_p is {self.min_p!r}; training samples from "
                "the whole distribution: give top_p = 1, top_k = 0 and min_p = 0, and lower the temperature instead"
            )
        if self.stop:
            raise SettingError(
                f"stop is {self.stop!r}; training samples whole completions, which end where the model ends them: "
                "give no stop strings"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatFormat:
    """What stands around a user turn besides what the model's chat template puts there by itself."""

    system_prompt: str = ""
    """System turn before the user's; empty for none."""

    arguments: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """Of the chat template, such as ``{"enable_thinking": False}``."""

    is_plain: bool = False
    """Give the model the text as it is, without its chat template, as base models are asked."""

    def __post_init__(self) -> None:
        if self.is_plain and (self.system_prompt or self.arguments):
            raise SettingError(
                "without the chat template there is no place for a system prompt or for arguments of the template; "
                "leave them out, or put the text before the question"
            )

    def settings(self) -> dict[str, Any]:
        """Return what is set, fit for JSON."""
        named = {
            "system_prompt": self.system_prompt,
            "chat_template_kwargs": dict(self.arguments),
            "plain_prompt": self.is_plain,
        }
        return {name: value for name, value in named.items() if value}

    def messages(self, text: str) -> list[dict[str, str]]:
        """Return the turns of a conversation that begins with a user turn."""
        system = [{"role": "system", "content": self.system_prompt}] if self.system_prompt else []
        return [*system, {"role": "user", "content": text}]


USER_TURN = ChatFormat()
"""Nothing but the chat template."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """One user turn to be answered."""

    problem_id: str
    """Names the group that answers it; unique within a request."""

    text: str
    """The turn as a person would type it; the sampler puts the model's chat template around it."""

    first_sample: int = 0
    """Number of the first completion; those before it are of earlier requests, so that nothing is drawn twice."""


def distinct(prompts: Iterable[Prompt]) -> Iterator[Prompt]:
    """Pass the prompts of a request through. One may come again for its next samples: with another ``first_sample``.

    Raises:
        SettingError: If two have the same id: their completions could not be told apart.
    """
    seen: set[tuple[str, int]] = set()
    for prompt in prompts:
        key = prompt.problem_id, prompt.first_sample
        if key in seen:
            raise SettingError(f"two prompts of this request are called {prompt.problem_id!r}; make ids unique")
        seen.add(key)
        yield prompt


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """One sampled continuation of a prompt."""

    token_ids: tuple[int, ...]
    """[T] sampled tokens, end-of-sequence included; none where a server gives texts only."""

    logprobs: tuple[float, ...]
    """[T] log-probability of each token under the sampling distribution, in nats."""

    text: str
    """The tokens decoded, special tokens and the stop string that ended it left out."""

    finish_reason: Literal["stop", "length"]
    """``length`` when the token budget ended the completion."""

    reported_tokens: int | None = None
    """How many tokens a server that gives texts only says that it sampled; ``None`` where it does not tell."""

    weights: tuple[tuple[int, str], ...] = ()
    """From which token on which version of the weights drew it, as ``((0, "v1"), (153, "v2"))``; empty where all are
    of the group's ``weights_version``."""

    @property
    def num_tokens(self) -> int | None:
        """How long it is, in tokens; ``None`` where nobody tells."""
        return len(self.token_ids) or self.reported_tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """All completions of one prompt."""

    problem_id: str
    """Of the prompt."""

    prompt_token_ids: tuple[int, ...]
    """[P] the prompt as the model saw it, chat template included."""

    completions: tuple[Completion, ...]
    """In the order of their sample numbers."""

    weights_version: str = ""
    """Of the weights that drew it, as its engine names them; changes with every weight update."""

    prefilled: str = ""
    """What the prompt ends with that is a part of the answer: an opening think tag, which many templates supply."""

    @property
    def texts(self) -> tuple[str, ...]:
        """What a grader is to see of each completion: without its opening tag, a thought that was cut off looks like
        an answer."""
        return tuple(self.prefilled + completion.text for completion in self.completions)


def cut_at_stop(text: str, stop: Iterable[str]) -> str:
    """Return a text up to where the first of these strings begins in it; all of it where there is none."""
    return text[: min((start for each in stop if (start := text.find(each)) >= 0), default=len(text))]


def derive_seed(*parts: int | str) -> int:
    """Derive a seed from what it belongs to: a hash, so neighbouring parts give unrelated seeds."""
    text = "\0".join(str(part) for part in parts)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest()) >> 1


def completion_seed(seed: int, problem_id: str, sample: int) -> int:
    """Derive the seed of one completion from that of its request."""
    return derive_seed(seed, problem_id, sample)
