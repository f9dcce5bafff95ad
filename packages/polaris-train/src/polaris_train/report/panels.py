"""The steps of all stages laid one after another: where each stands, and panels of what was measured over them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from polaris_train.report.evidence import RunEvidence, StageEvidence
from polaris_train.report.pictures import Marks, Point, Series, draw_panel
from polaris_train.report.records import HeldOut
from polaris_train.stage.levels import PROB_GAP, TRUNCATED_SHARE, ZERO_SIGNAL_SHARE


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantity:
    """What a panel shows of each step that has it."""

    title: str
    """Over the panel."""

    fields: Mapping[str, str]
    """Of a step's line, by what each is called; lines of the other kind of stage may have none of them."""

    percent: bool = False
    """Whether it is a share."""

    level: float | None = None
    """At which an alarm rings."""


QUANTITIES = (
    Quantity(title="Training reward", fields={"": "reward"}, percent=True),
    Quantity(title="Loss on traces, nats a token", fields={"learned": "loss", "validation": "validation_loss"}),
    Quantity(title="Divergence from the teacher, nats a token", fields={"": "reverse_kl"}),
    Quantity(title="Mean length, tokens", fields={"": "mean_tokens"}),
    Quantity(title="Entropy, nats", fields={"": "entropy"}),
    Quantity(title="Cut by the token budget", fields={"": "truncated_share"}, percent=True, level=TRUNCATED_SHARE),
    Quantity(title="Mismatch: mean probability gap to the engine", fields={"": "prob_gap_mean"}, level=PROB_GAP),
    Quantity(
        title="Groups whose rewards differ",
        fields={"": "informative_share"},
        percent=True,
        level=1 - ZERO_SIGNAL_SHARE,
    ),
    Quantity(title="Wrong answers: what they share with the consensus", fields={"": "overlap"}, percent=True),
)
"""Over all stages, in the order of the page."""


def draw_panels(run: RunEvidence) -> list[str]:
    """Return the panels of a run; none before its first step."""
    if not any(stage.steps for stage in run.stages):
        return []
    return _draw({"": run}, marks=_marks(run))


def draw_both(first: RunEvidence, second: RunEvidence) -> list[str]:
    """Return the panels of two runs, each over its own steps; none before their first."""
    runs = {"A": first, "B": second}
    if not any(stage.steps for run in runs.values() for stage in run.stages):
        return []
    return _draw(runs, marks=Marks(stages={}))


def _draw(runs: dict[str, RunEvidence], *, marks: Marks) -> list[str]:
    pictures: list[str] = []
    for number, quantity in enumerate(QUANTITIES):
        series = [
            Series(name=f"{name} {called}".strip(), points=points)
            for name, run in runs.items()
            for called, field in quantity.fields.items()
            if (points := _points(run, quantity, field, f"{name} {called}".strip())) or not called
        ]
        if any(each.points for each in series):
            level = quantity.level if _is_near(series, quantity.level) else None
            pictures.append(draw_panel(quantity.title, series, marks, level=level, percent=quantity.percent))
        if number == 0:
            held_out = [each for name, run in runs.items() for each in _held_out(run, name)]
            if held_out:
                pictures.append(draw_panel("Held-out accuracy, 95% interval", held_out, marks, percent=True))
    return pictures


def _is_near(series: Sequence[Series], level: float | None) -> bool:
    """Return whether a level can be drawn without flattening the values."""
    values = [point.value for each in series for point in each.points]
    return level is not None and bool(values) and min(values) / 3 <= level <= 3 * max(values)


def _points(run: RunEvidence, quantity: Quantity, field: str, name: str) -> list[Point]:
    points: list[Point] = []
    for stage, start in _starts(run):
        for line in stage.steps:
            value = getattr(line, field, None)
            if value is not None:
                label = f"{_label(name, stage, line.step)}: {_text(value, percent=quantity.percent)}"
                points.append(Point(place=start + line.step, value=value, label=label))
    return points


def _held_out(run: RunEvidence, name: str) -> list[Series]:
    sets = list(dict.fromkeys(key for stage in run.stages for key in stage.held_out))
    several = len(sets) > 1
    return [
        Series(
            name=" ".join(part for part in (name, key if several else "") if part),
            points=[
                _held_out_point(name, stage, start, each)
                for stage, start in _starts(run)
                for each in stage.held_out.get(key, [])
            ],
        )
        for key in sets
    ]


def _held_out_point(name: str, stage: StageEvidence, start: int, each: HeldOut) -> Point:
    low, high = each.interval
    label = f"{_label(name, stage, each.step)}: {100 * each.value:.1f}% [{100 * low:.1f}, {100 * high:.1f}]"
    return Point(place=start + each.step, value=each.value, label=label, interval=each.interval)


def _label(name: str, stage: StageEvidence, step: int) -> str:
    return f"{name} {stage.name} step {step}".strip()


def _text(value: float, *, percent: bool) -> str:
    return f"{100 * value:.1f}%" if percent else f"{value:.4g}"


def _starts(run: RunEvidence) -> list[tuple[StageEvidence, int]]:
    """Return each stage that has steps with how many steps are before it."""
    starts: list[tuple[StageEvidence, int]] = []
    before = 0
    for stage in run.stages:
        if stage.steps:
            starts.append((stage, before))
            before += stage.steps[-1].step
    return starts


def _marks(run: RunEvidence) -> Marks:
    starts = _starts(run)
    return Marks(
        stages={stage.name: (start, start + stage.steps[-1].step) for stage, start in starts},
        chosen=[start + stage.outcome.chosen.step for stage, start in starts if stage.outcome],
    )
