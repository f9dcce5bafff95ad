"""What samplers and engines can do, and what an engine is opened with; standard library only."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from polaris_rollout.records import USER_TURN, ChatFormat, Group, Prompt, SamplingParams

if TYPE_CHECKING:
    import torch


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
