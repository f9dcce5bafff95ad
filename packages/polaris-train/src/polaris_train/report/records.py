"""What a report reads of the files of a run, each line or document a record."""

from datetime import UTC, datetime
from typing import Annotated, Any

from polaris_rollout.temperature import quantity_of
from pydantic import BeforeValidator, Field

from polaris_train.report.files import Record


def _to_text(moment: object) -> object:
    if isinstance(moment, int | float):
        return datetime.fromtimestamp(moment, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    return moment


Moment = Annotated[str, BeforeValidator(_to_text)]
"""A time as text, also where it was written as seconds since 1970."""


class Interval(Record):
    """A value and how sure it is."""

    value: float
    low: float
    high: float


class Manifest(Record):
    """A finished step of the recipe."""

    step: str
    started: Moment | None = None
    finished: Moment | None = None
    seconds: float | None = None


class Event(Record):
    """The start or the end of a step of the recipe."""

    time: Moment
    event: str
    step: str = ""


class Shape(Record):
    """A histogram as a selection writes it."""

    num_problems: int
    shape: str
    counts: list[int] = Field(min_length=2)
    mean_accuracy: float
    warnings: tuple[str, ...] = ()


class Decision(Record):
    """About one problem."""

    problem_id: str
    kept: bool
    reason: str


class Selection(Record):
    """``decisions.json``."""

    rules: list[dict[str, Any]]
    num_problems: int
    num_kept: int
    reasons: dict[str, int]
    before: Shape | None = None
    after: Shape | None = None
    notes: tuple[str, ...] = ()
    decisions: tuple[Decision, ...] = ()


class Zone(Interval):
    """Where a zone of temperatures starts."""

    loss: float


class Zones(Record):
    """Where exploration and collapse start."""

    exploration: Zone
    collapse: Zone | None


class CurvePoint(Record):
    """What was measured at one temperature."""

    temperature: float
    num_samples: int
    accuracy: Interval | None
    diversity: Interval | None
    truncated: float
    mean_tokens: float


class Fit(Record):
    """The accuracy between the temperatures that were probed."""

    temperatures: list[float] = Field(min_length=2)
    accuracy: list[float]
    accuracy_low: list[float]
    accuracy_high: list[float]
    diversity_temperatures: tuple[float, ...] = ()
    diversity: tuple[float, ...] = ()
    diversity_low: tuple[float, ...] = ()
    diversity_high: tuple[float, ...] = ()


class TemperatureSearch(Record):
    """``temperature.json``."""

    temperature: float
    reason: str
    warnings: tuple[str, ...] = ()
    interval: Interval | None = None
    measure: dict[str, Any] | None = None
    target_diversity: float | None = None
    diversity: Interval | None
    level: float
    zones: Zones
    curve: list[CurvePoint]
    fit: Fit
    sampled_tokens: int

    @property
    def quantity(self) -> str:
        """What ``diversity`` stands for."""
        return quantity_of((self.measure or {}).get("name"))


class Stopped(Record):
    """Why a stage ended."""

    step: int
    reason: str
    sentence: str


class HeldOut(Record):
    """What the policy reached after a step."""

    step: int
    value: float
    interval: tuple[float, float]


class Chosen(Record):
    """Which checkpoint a stage hands on."""

    step: int
    sentence: str


class Outcome(Record):
    """``outcome.json``."""

    stopped: Stopped
    chosen: Chosen


class StepLine(Record):
    """What every line of ``metrics.jsonl`` has."""

    step: int
    mean_tokens: float
    entropy: float | None = None
    skipped_updates: int = 0
    alarms: tuple[str, ...] = ()
    evaluations: dict[str, dict[str, float]] = Field(default_factory=dict[str, dict[str, float]])


class StepMetrics(StepLine):
    """A line of a stage that learns from its own answers."""

    reward: float
    informative_share: float
    solved_none: int = 0
    solved_all: int = 0
    truncated_share: float
    outcomes: dict[str, int] = Field(default_factory=dict[str, int])
    sampled_tokens: int = 0
    prob_gap_mean: float | None = None
    mismatch_share: float | None = None
    copied_groups: int = 0
    refilled_groups: int = 0
    rescued_groups: int = 0
    rescue_age: float | None = None
    rescue_share: float | None = None
    reverse_kl: float | None = None
    """From the teacher, where there is one."""
    overlap: float | None = None
    """Of wrong answers with the consensus, with CORE."""

    @property
    def num_completions(self) -> int:
        """Completions that were graded."""
        return sum(self.outcomes.values())


class SftMetrics(StepLine):
    """A line of a stage of supervised fine-tuning."""

    epoch: float
    loss: float | None
    """In nats a token of the assistant; ``None`` where it was not finite."""
    validation_loss: float | None = None
    num_tokens: int
    """That were learned."""


class StepPerformance(Record):
    """A line of ``performance.jsonl``."""

    step: int
    replayed: bool = False
    seconds: dict[str, float]
    tokens_per_second: dict[str, float] = Field(default_factory=dict[str, float])
    peak_memory_gib: dict[str, float] = Field(default_factory=dict[str, float])


class ChosenTraces(Record):
    """What became of the answers that traces were chosen from, as ``polaris-data traces`` counts them."""

    num_completions: int
    num_traces: int
    num_problems: int
    left_out: dict[str, int] = Field(default_factory=dict[str, int])


class LearnedTraces(Record):
    """``sequences.json``: what became of the traces of a stage."""

    num_traces: int
    num_tokens: int
    num_learned: int
    set_aside: dict[str, int] = Field(default_factory=dict[str, int])
    writers: dict[str, int] = Field(default_factory=dict[str, int])
    chosen: ChosenTraces | None = None


class SetAside(Record):
    """A line about a row that is no problem."""

    reason: str


class Finding(Record):
    """A line about a problem whose reference or prompt was found wanting."""

    finding: str
