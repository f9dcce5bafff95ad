"""A released folder on the Hugging Face Hub."""

from pathlib import Path

from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalTokenNotFoundError

from polaris_train.errors import ReleaseError


def push_release(folder: Path, repository: str, *, private: bool) -> str:
    """Upload a folder to a model repository, which is made if there is none; files that are there already are skipped.

    Args:
        folder: As `write_release` wrote it; it stays whatever happens.
        repository: ``OWNER/NAME``.
        private: Whether a repository that is made is seen by its owner alone.

    Returns:
        Address of the repository.

    Raises:
        ReleaseError: If the Hub refuses or cannot be reached.
    """
    remedy = f"{folder} is complete: correct this and give the same command, or 'hf upload {repository} {folder}'"
    try:
        api = HfApi()
        address = api.create_repo(repository, private=private, exist_ok=True)
        api.upload_folder(repo_id=repository, folder_path=folder, commit_message="Model, card and inference settings")
    except LocalTokenNotFoundError as error:
        raise ReleaseError(f"the Hub does not know you: type 'hf auth login'; {remedy}") from error
    except (HFValidationError, HfHubHTTPError, OSError) as error:
        raise ReleaseError(f"{repository} was not uploaded ({' '.join(str(error).split())}); {remedy}") from error
    return str(address)
