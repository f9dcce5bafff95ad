"""The tables of a recipe.

A stage knows nothing of data, temperature and evaluation, which are read between stages: `polaris run` turns each into
commands that a person could type.
"""

from typing import Literal

from polaris_reward.core import MIN_COUNT
from pydantic import BaseModel, ConfigDict, Field, model_validator

Activations = Literal["keep", "selective", "attention", "recompute", "offload"]
"""What layers keep for the backward pass: everything; results of matrix products and attention; of attention alone;
their inputs; these in the memory of the host. The fewer, the more is computed again."""

PROFILE_SAMPLES = 8
"""Answers that a training problem's difficulty is measured with, as published."""


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class DataSource(_Table):
    """One set that training problems are imported from."""

    path: str | None = None
    """A file, a folder or a Hub id; by default where the importer's data set is on the Hub."""

    importer: str | None = None
    """Name of a published data set whose columns are known: see ``polaris-data import --help``."""

    columns: str | None = None
    """Columns of an own file, ``question=TEXT,references=ANSWER``, where they have other names."""

    where: dict[str, tuple[str, ...]] = {}
    """Other columns and the values that a row must have one of: ``{ level = ["Level 4", "Level 5"] }``."""

    answer_from: Literal["answer", "solution"] = "answer"
    """Where answers stand: in their own column, or always at the end of the solution."""

    join_parts: bool = False
    """Keep questions of several parts that have an answer to each."""

    @model_validator(mode="after")
    def _check(self) -> "DataSource":
        if self.path is None and self.importer is None:
            raise ValueError("data.sources: give a path, an importer, or both")
        if self.importer is not None and self.columns is not None:
            raise ValueError(f"data.sources: the importer {self.importer!r} knows its columns; leave out columns")
        return self


class DataTable(_Table):
    """From raw sets to the problems of a stage."""

    sources: tuple[DataSource, ...] = ()
    """What is imported; by default the recipe's ``problems``."""

    dedup: bool = True
    """Keep one problem of each cluster of near-duplicates. The published set has duplicates that users reported."""

    decontaminate: tuple[str, ...] | None = None
    """Benchmarks whose problems are dropped; by default those of ``evaluation``. The published set overlaps AIME24."""

    profile_samples: int = Field(default=PROFILE_SAMPLES, ge=1)
    """Answers of each problem that its difficulty is measured with. Published: 8 by the model to be trained."""

    profile_temperature: float = Field(default=0.6, ge=0)
    """Of these answers. Published for the difficulty study: 0.6."""

    adaptive: bool = False
    """Stop sampling a problem once its answers settle whether it is always solved."""

    select: tuple[str, ...] = ("drop solved=always",)
    """Rules of the selection before stage 1, as ``polaris-data select --rule`` takes them. Published: drop 8/8. None:
    all stay, and nothing is profiled."""

    drop: tuple[str, ...] = ("accuracy above=0.9",)
    """Rules between stages, on what the stage before saw of its problems; none: all stay. Published: above 0.9."""


class TemperatureTable(_Table):
    """How a stage's ``temperature = "auto"`` is found: on held-out problems, never on a benchmark.

    Stage 1 explores under control; later stages get the diversity that stage 1 chose.
    """

    num_problems: int = Field(default=64, ge=1)
    """Held-out problems that are asked. Published: 30, of AIME24."""

    answers: int | None = Field(default=None, ge=12)
    """Answers of each over all temperatures; by default 80 in stage 1 and 26 for a target. Published: 80."""

    max_loss: float = Field(default=0.02, gt=0, lt=1)
    """Share of the accuracy that may be lost where exploration starts; published: "begins to decline"."""

    target_entropy: float | None = Field(default=None, gt=0, exclude_if=lambda value: value is None)
    """Find for each stage the temperature at which sampled tokens have this entropy, in nats, instead. AceReason 1.1
    (arXiv 2506.13284) holds it near 0.3."""


class EvaluationTable(_Table):
    """How the first model and the last are measured."""

    benchmarks: tuple[str, ...] = ("aime24", "aime25")
    """Names (``polaris-eval list``) or files. Published: AIME24 and AIME25 first; empty: nothing is evaluated."""

    limit: int | None = Field(default=None, ge=1)
    """Only the first problems of each."""

    samples: int | None = Field(default=None, ge=1)
    """Answers of each problem; by default what the benchmark is published with (32 for AIME)."""

    temperature: float = Field(default=1.4, ge=0)
    """Published for POLARIS-4B-Preview: 1.4."""

    top_k: int = Field(default=20, ge=0)
    """Most likely tokens that are kept; 0 keeps all. Published: 20."""

    context: int | None = Field(default=None, ge=2)
    """Tokens of prompt and answer; by default the last stage's context."""

    yarn_context: int = Field(default=98304, ge=0)
    """Tokens of a second evaluation of the last model, with YaRN; 0: only at ``context``. Published: 96K."""


class ArmTable(_Table):
    """One way of training that ``polaris ablate`` compares with others, in place of the recipe's parts one by one."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    """Names its folder."""

    label: str = ""
    """In the table; by default the name."""

    stages: tuple[str, ...] | None = Field(default=None, min_length=1)
    """Names of the recipe's stages that it has, in their order; by default all."""

    set: tuple[str, ...] = ()
    """What else differs from the recipe, as ``--set`` takes it: ``lora.rank=64``, ``stages.rl.temperature=1.2``."""

    before: str | None = None
    """An arm above it that it is compared with, besides the first model."""


AUTO: Literal["auto"] = "auto"
"""A stage's temperature that ``polaris-rollout temperature`` finds."""


class Distillation(_Table):
    """A teacher that says how likely it finds every token that the policy samples (on-policy distillation).

    The advantage of a token is ``weight * (log p_teacher - log p_policy)``, so that the policy descends the reverse KL
    divergence on its own samples, and ``reward`` times that of its completion beside it. Every group teaches, also one
    that is all right or all wrong (Agarwal et al., arXiv 2306.13649; Gu et al., arXiv 2306.08543; Thinking Machines,
    "On-Policy Distillation", 2025).
    """

    teacher: str
    """A folder or Hub id, loaded beside the policy and frozen; or the address of a ``vllm serve`` that holds it. Must
    have the policy's vocabulary."""

    weight: float = Field(default=1.0, gt=0)
    """Of the difference of the log-probabilities."""

    reward: float = Field(default=0.0, ge=0)
    """Weight of the advantages that the grader's rewards give; 0: the teacher alone."""

    @property
    def is_served(self) -> bool:
        """Whether the teacher is asked over HTTP."""
        return self.teacher.startswith(("http://", "https://"))


class Core(_Table):
    r"""Reward wrong answers for the results that they put into ``\underline{}`` as right ones do (POLARIS V2).

    See `polaris_reward.core`. The first stage begins with what right answers of the profile underline, a later one with
    what the stage before knew.
    """

    min_count: int = Field(default=MIN_COUNT, ge=1)
    """Right answers that must have underlined a result before it counts."""


class Lora(_Table):
    """Adapters of all linear layers but the output head, trained instead of the weights (Hu et al., arXiv 2106.09685).

    Adapters on all layers, not on attention alone, do what full parameters do in reinforcement learning, at any rank
    that was tried (Schulman et al., "LoRA Without Regret", 2025. https://thinkingmachines.ai/blog/lora/).
    """

    rank: int = Field(default=64, ge=1)
    """Of each adapter."""

    alpha: float | None = Field(default=None, gt=0)
    """Adapters are scaled by ``alpha / rank``; by default as large as the rank."""

    @property
    def scale(self) -> float:
        """Factor of each adapter."""
        return (self.alpha or self.rank) / self.rank
