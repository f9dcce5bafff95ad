"""Where the embedded model is; imports nothing, because every command that is given ``tiny`` comes here."""

from pathlib import Path


def tiny_model() -> Path:
    """Return the folder of the embedded model (Hugging Face format); `polaris_train.tiny` says what it is."""
    return Path(__file__).parent / "assets" / "tiny"
