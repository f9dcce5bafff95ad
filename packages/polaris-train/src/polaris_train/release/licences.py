"""The licences of the models that a released one was made from, where they say so."""

import re
from pathlib import Path

from polaris_rollout import ModelError, resolve_model

_FILES = ("LICENSE", "LICENSE.txt", "LICENSE.md", "NOTICE")


def licence_of(model: str) -> str | None:
    """Return the licence that the card of a model states, in its folder or on the Hub."""
    return _hub_licence(model) if _folder(model) is None else stated_licence(model)


def stated_licence(model: str) -> str | None:
    """Return the licence that the card in the folder of a model states; ``None`` without one, or if it is not here."""
    folder = _folder(model)
    card = folder and folder / "README.md"
    if card is None or not card.is_file():
        return None
    found = re.search(r"(?ms)\A---\n.*?^license: *([^\n]+)$.*?^---$", card.read_text(encoding="utf-8"))
    return found[1].strip().strip("'\"") if found else None


def licence_files(model: str) -> list[Path]:
    """Return the texts of licences in the folder of a model."""
    folder = _folder(model)
    return [path for name in _FILES if folder and (path := folder / name).is_file()]


def _folder(model: str) -> Path | None:
    """Return the files of a model where they are on this machine."""
    try:
        folder = Path(resolve_model(model))
    except ModelError:
        return None
    return folder if folder.is_dir() else None


def _hub_licence(model: str) -> str | None:
    from huggingface_hub import ModelCard
    from huggingface_hub.errors import HfHubHTTPError

    try:
        return getattr(ModelCard.load(model).data, "license", None)
    except (HfHubHTTPError, OSError, ValueError):  # Not to be had: the card says that it is not known.
        return None
