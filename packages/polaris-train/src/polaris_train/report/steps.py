"""A step of a recipe in a run: how far it is, and what came of it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from polaris_train.report.evidence import RunEvidence

State = Literal["done", "running", "failed", "open", "skipped"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RecipeStep:
    """A step of the recipe."""

    key: str
    """Name of its manifest."""

    name: str
    """For people."""

    state: State
    """How far it is; ``skipped`` where the recipe leaves it out."""

    result: str
    """What came of it, in a word or two; empty where nothing did yet."""

    sentence: str
    """What was decided and why, or what is not there yet."""


def recipe_step(
    run: RunEvidence,
    key: str,
    name: str,
    result: str | None,
    sentence: Callable[[], str],
    *,
    skipped: str | None = None,
) -> RecipeStep:
    """Return a step; ``result`` is ``None`` where it left nothing, ``skipped`` says why it never will."""
    if result is not None:
        return RecipeStep(key=key, name=name, state=_state(run, key, "done"), result=result, sentence=sentence())
    if skipped is not None:
        return RecipeStep(key=key, name=name, state="skipped", result="", sentence=skipped)
    state = _state(run, key, "open")
    words = {"running": "is running", "failed": "failed; see its log", "done": "left nothing that can be read"}
    return RecipeStep(key=key, name=name, state=state, result="", sentence=words.get(state, "not there yet"))


def _state(run: RunEvidence, key: str, otherwise: State) -> State:
    if key in run.manifests:
        return "done"
    last = next((event.event for event in reversed(run.events) if event.step == key), None)
    return {"started": "running", "failed": "failed", "finished": "done"}.get(last or "", otherwise)  # pyright: ignore
