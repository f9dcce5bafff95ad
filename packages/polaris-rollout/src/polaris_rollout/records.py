"""What goes into a sampler and what comes out of it; standard library only."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol

from polaris_rollout.errors import SettingError

if TYPE_CHECKING:
    import torch

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

    def __post_init__(self) -> None:
        if not 0 <= self.temperature <= MAX_TEMPERATURE:
            raise SettingError(f"temperature is {self.temperature!r}; give 0 to {MAX_TEMPERATURE:g}")
        if not 0 < self.top_p <= 1:
            raise SettingError(f"top_p is {self.top_p!r}; give a number in (0, 1]")
        if self.top_k < 0:
            raise SettingError(f"top_k is {self.top_k!r}; give 0 (off) or more")
        if self.max_tokens is not None and self.max_tokens < 1:
            raise SettingError(f"max_tokens is {self.max_tokens!r}; give 1 or more")

    def require_untruncated(self) -> None:
        """Refuse a truncated distribution: for training, importance ratios would carry the mass that was cut off.

        Raises:
            SettingError: If ``top_p`` or ``top_k`` cuts anything off.
        """
        if self.top_p < 1 or self.top_k > 0:
            raise SettingError(
                f"top_p is {self.top_p!r} and top_k is {self.top_k!r}; training samples from the whole distribution: "
                "give top_p = 1 and top_k = 0, and lower the temperature instead"
            )


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
    """[T] sampled tokens, end-of-sequence included."""

    logprobs: tuple[float, ...]
    """[T] log-probability of each token under the sampling distribution, in nats."""

    text: str
    """The tokens decoded, special tokens left out."""

    finish_reason: Literal["stop", "length"]
    """``length`` when the token budget ended the completion."""


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


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineStatus:
    """What one engine is doing at this moment."""

    name: str
    """Tells the engine from its siblings: ``engine``, ``rank 3``, or an endpoint's address."""

    state: str
    """In a word or two: ``sampling``, ``idle``, ``down since 12 s``."""

    running: int
    """Completions being sampled."""

    waiting: int
    """Completions handed to the engine that have not begun."""

    longest_running: int | None
    """Tokens of the longest unfinished completion; ``None`` where the engine does not tell."""

    sampled_tokens: int
    """Since the engine was opened, unfinished completions included where it tells; it grows while work goes on."""


@dataclass(frozen=True, slots=True)
class EngineSpec:
    """Everything that an engine is opened with."""

    model: str
    """A folder, a Hub id, or a carried name; see `resolve_model`."""

    _: KW_ONLY

    context: int | None = None
    """Longest prompt and completion together, in tokens; ``None`` takes the model's positions, more than those
    derives YaRN. Of servers ``None`` takes the least of theirs."""

    yarn_factor: float | None = None
    """Of YaRN, for any context; ``None`` derives it where the context needs it. Servers have their own."""

    extend_positions: bool = False
    """Leave the rotary frequencies as they are beyond the model's positions: plain extrapolation, as in the published
    recipe's later stages."""

    tensor_parallel: int = 1
    """GPUs that share one copy of the model; for the engine in this process."""

    memory_share: float | None = None
    """Of each GPU, when the engine is awake; ``None`` is the published recipe's figure."""

    max_in_flight: int | None = None
    """Completions that one engine works on at the same time; ``None`` is 256."""

    endpoints: tuple[str, ...] = ()
    """Addresses of ``vllm serve`` servers such as ``http://host:8000``; none opens vLLM in this process."""

    dtype: str = "auto"
    """Of the weights on a GPU: ``bfloat16``, ``float16``, ``float32``, or ``auto``, the model's own. A CPU computes in
    float32."""

    canary: bool = True
    """Compare the engine's log-probabilities with those of transformers before anything is sampled."""

    stall_limit_s: float = 1800.0
    """Longest time without a token, in seconds, until the process is ended."""

    options: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """Passed to the engine in this process as they are: keyword arguments of ``vllm.LLM``."""


class Sampler(Protocol):
    """Anything that answers prompts with groups of completions."""

    def sample(self, prompts: Iterable[Prompt], params: SamplingParams, *, n: int) -> Iterator[Group]:
        """Yield a group of ``n`` completions for each prompt, as groups finish.

        Prompts are drawn from the iterable only when the engine has room for them, so several samplers can
        share one source of work. A prompt may come again once its group was yielded. Completion ``i`` of a
        problem, counted from the prompt's ``first_sample``, depends on the seed, the problem and ``i`` alone, not
        on what else is in flight.
        """
        ...


class Engine(Sampler, Protocol):
    """A sampler with an engine behind it, in this process or at an address."""

    @property
    def context(self) -> int:
        """Longest prompt and completion together, in tokens."""
        ...

    @property
    def weights_version(self) -> str:
        """Name of the weights that it samples with."""
        ...

    def status(self) -> Sequence[EngineStatus]:
        """Say what every engine behind it is doing; callable from another thread while it samples."""
        ...

    def check_prompts(self, prompts: Sequence[Prompt], max_tokens: int | None = None) -> None:
        """Refuse prompts that leave no room for an answer: for ``max_tokens``, or for one token.

        Raises:
            PromptTooLongError: Naming the prompts, their lengths, and the context they need.
        """
        ...


class WeightSink(Protocol):
    """Whatever a trainer gives new weights to: an engine in its process, servers, a folder of adapters."""

    @property
    def weights_version(self) -> str:
        """Name of the weights that it samples with."""
        ...

    def update_weights(self, weights: "Iterable[tuple[str, torch.Tensor]]", *, version: str | None = None) -> None:
        """Replace the weights and forget what was computed with the old ones.

        Args:
            weights: Names as in the model's ``named_parameters``, and whole tensors; one at a time.
            version: Name of these weights; ``None`` counts updates.
        """
        ...

    def sleep(self) -> None:
        """Free device memory until `wake`, where that is possible."""
        ...

    def wake(self) -> None:
        """Take the device memory back; the weights must be updated before sampling."""
        ...


def derive_seed(*parts: int | str) -> int:
    """Derive a seed from what it belongs to: a hash, so neighbouring parts give unrelated seeds."""
    text = "\0".join(str(part) for part in parts)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest()) >> 1


def completion_seed(seed: int, problem_id: str, sample: int) -> int:
    """Derive the seed of one completion from that of its request."""
    return derive_seed(seed, problem_id, sample)
