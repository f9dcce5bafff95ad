"""Which servers there are: addresses that were given, and files that list addresses and may change at any time."""

import logging
from collections.abc import Sequence
from pathlib import Path

from polaris_rollout.errors import EndpointError
from polaris_rollout.servers.connection import server_address

logger = logging.getLogger(__name__)


class Inventory:
    """Addresses of servers.

    Attributes:
        files: Those that list addresses, one a line; what follows ``#`` is left out.
    """

    def __init__(self, endpoints: Sequence[str]) -> None:
        """Read it for the first time.

        Args:
            endpoints: Addresses such as ``http://host:8000``, or names of files.

        Raises:
            EndpointError: If one is neither, two are equal, or there is none.
        """
        self.files = [Path(each) for each in endpoints if not each.startswith("http") and Path(each).is_file()]
        self._given = [server_address(each) for each in endpoints if Path(each) not in self.files]
        self._listed: list[str] = []
        found = self._given + self._read()
        if not found or len(set(found)) < len(found):
            names = f" in {' and '.join(map(str, self.files))}" if self.files else ""
            raise EndpointError(f"endpoints{names} are {found}; give one or more addresses, each once")

    def addresses(self) -> list[str]:
        """Return the addresses as of now; while a file cannot be read, those that it had."""
        try:
            return list(dict.fromkeys(self._given + self._read()))
        except (OSError, EndpointError, UnicodeDecodeError) as error:
            logger.warning("the inventory stays as it was: %s", error)
            return list(dict.fromkeys(self._given + self._listed))

    def _read(self) -> list[str]:
        lines = [line.partition("#")[0].strip() for file in self.files for line in file.read_text().splitlines()]
        self._listed = [server_address(line) for line in lines if line]
        return self._listed
