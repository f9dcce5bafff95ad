"""What goes into a sampler and what comes out of it; standard library only."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import KW_ONLY, asdict, dataclass, field
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


ROOM_OPTIONS = frozenset(
    "gpu_memory_utilization kv_cache_memory_bytes max_num_seqs max_num_batched_tokens max_num_partial_prefills "
    "max_long_partial_prefills long_prefill_token_threshold enable_prefix_caching enforce_eager cpu_offload_gb "
    "kv_offloading_size load_format download_dir disable_log_stats use_tqdm_on_load".split()
)
"""Engine options that say how much room there is and how work is cut up: but for rounding they change no answer."""


def deciding_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the engine options that can change what is drawn, such as the precision of the cache or speculation."""
    return {name: options[name] for name in sorted(options) if name not in ROOM_OPTIONS}


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

    chat: ChatFormat = USER_TURN
    """What stands around every user turn."""

    tensor_parallel: int = 1
    """GPUs that share one copy of the model; for the engine in this process."""

    data_parallel: int = 1
    """Copies of the model that share the work, each in a process of its own on ``tensor_parallel`` GPUs of its own."""

    memory_share: float | None = None
    """Of each GPU, when the engine is awake; ``None``: it has the GPU for itself."""

    max_in_flight: int | None = None
    """Completions that one engine works on at the same time, at most; ``None`` is 256. Fewer where its cache holds
    fewer."""

    endpoints: tuple[str, ...] = ()
    """Addresses of ``vllm serve`` servers such as ``http://host:8000``, or files that list some; none opens vLLM in
    this process."""

    text_only: bool = False
    """The addresses are of any servers that speak OpenAI's protocol: asked for texts, with nothing else known."""

    dtype: str = "auto"
    """Of the weights on a GPU: ``bfloat16``, ``float16``, ``float32``, or ``auto``, the model's own. A CPU computes in
    float32."""

    canary: bool = True
    """Compare the engine's log-probabilities with those of transformers before anything is sampled."""

    stall_limit_s: float = 1800.0
    """Longest time without a token, in seconds, until the process is ended."""

    options: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """Passed to the engine in this process as they are: names of vLLM's ``EngineArgs``; they win."""

    def option_settings(self) -> dict[str, Any]:
        """Return the options that can change what is drawn, as settings of a file; nothing where there are none."""
        deciding = deciding_options(self.options)
        return {"engine_options": deciding} if deciding else {}


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
        """Take device memory back, that for answers with the next weights: update them before sampling."""
        ...


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
