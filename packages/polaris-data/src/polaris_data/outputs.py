"""Who an output belongs to: the settings of the run that writes it lie beside it.

A file is never overwritten by a run with other settings, nor one that has no settings beside it.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from polaris_data.errors import OtherRunError
from polaris_data.journal import claim


def settings_path(out: Path) -> Path:
    """Return where the settings of a result file are: ``NAME.settings.json`` beside it."""
    return out.with_name(f"{out.name}.settings.json")


def partial_path(out: Path) -> Path:
    """Return where a `Journal` keeps the records of a run that is under way."""
    return out.with_name(f"{out.name}.partial")


def check_output(out: Path, settings: Mapping[str, Any]) -> None:
    """Refuse a result file, whole or partial, of a run with other settings or of nobody knows which run.

    Raises:
        OtherRunError: If it is either; nothing is written.
    """
    if settings_path(out).exists():
        claim(settings_path(out), settings, output=out)
        return
    for path in (out, partial_path(out)):
        if path.exists():
            raise OtherRunError(
                f"{path} exists without {settings_path(out).name} beside it, so it is not known which run wrote "
                "it; choose another --out or remove it"
            )


def claim_output(out: Path, settings: Mapping[str, Any]) -> None:
    """Make a result file this run's own, by writing its settings beside it.

    Raises:
        OtherRunError: If it belongs to another run.
    """
    check_output(out, settings)
    claim(settings_path(out), settings, output=out)
