"""One HTTP server: requests sent, and what goes wrong said in one sentence."""

import os
import socket
from typing import Any

import httpx

from polaris_rollout.errors import EndpointError

CONNECT_TIMEOUT_S = 10.0
"""For the connection alone: an answer may take an hour, so requests themselves have no time-out."""

OUR_FAULT = frozenset({400, 401, 403, 413, 422})
"""Statuses that no other server and no later try would change."""

_KEEP_ALIVE: list[tuple[int, int, int]] = [(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)]
if hasattr(socket, "TCP_KEEPIDLE"):
    # Routers forget a silent connection after minutes, and the answer would never arrive.
    _KEEP_ALIVE.append((socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 60))


class EndpointDownError(Exception):
    """The server failed, is busy, or cannot be reached: another may do, or this one later.

    Attributes:
        status: Of its HTTP answer; ``None`` where there was none.
    """

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class Connection:
    """The HTTP client of one server.

    Every method raises `EndpointDownError` where another server or a later try may succeed, and `EndpointError`
    where the request itself is refused.

    Attributes:
        address: Scheme, host and port.
    """

    def __init__(self, address: str) -> None:
        """Prepare a client; nothing is sent.

        Args:
            address: Such as ``http://host:8000``. The key in ``VLLM_API_KEY``, where servers look for it too,
                is sent along.

        Raises:
            EndpointError: If the address is not a URL of a server.
        """
        self.address = server_address(address)
        key = os.environ.get("VLLM_API_KEY")
        # A connection for each request: beside an answer it costs nothing, and none is closed under a request for
        # having been idle.
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
        self._client = httpx.AsyncClient(
            base_url=self.address,
            transport=httpx.AsyncHTTPTransport(
                verify=self.address.startswith("https"),  # Plain HTTP has no certificates to read.
                limits=limits,
                socket_options=_KEEP_ALIVE,
            ),
            timeout=httpx.Timeout(None, connect=CONNECT_TIMEOUT_S),
            headers={"Authorization": f"Bearer {key}"} if key else {},
        )

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        """Send a request and return what the JSON of the answer holds."""
        response = await self.request(method, path, body)
        try:
            return response.json()
        except (ValueError, RecursionError) as error:
            raise EndpointDownError(
                f"{self.address} answered {path} with something else than JSON: {response.text!r:.200}"
            ) from error

    async def request(self, method: str, path: str, body: dict[str, Any] | None = None) -> httpx.Response:
        """Send a request and return the answer to it, which has status 200."""
        response = await self.send(method, path, body)
        if response.status_code == 200:
            return response
        said = f"{path} with status {response.status_code}: {_message(response)}"
        if response.status_code in OUR_FAULT:
            raise EndpointError(f"{self.address} refused {said}")
        raise EndpointDownError(f"{self.address} answered {said}", response.status_code)

    async def send(self, method: str, path: str, body: dict[str, Any] | None = None) -> httpx.Response:
        """Send a request and return the answer to it, whatever its status."""
        try:
            return await self._client.request(method, path, json=body)
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            raise EndpointDownError(
                f"{self.address} cannot be reached ({str(error) or type(error).__name__})"
            ) from error
        except httpx.HTTPError as error:
            raise EndpointDownError(
                f"{self.address} broke off an answer ({str(error) or type(error).__name__})"
            ) from error


def server_address(text: str) -> str:
    """Return scheme, host and port of an address as it was given, which may end as OpenAI's clients want it.

    Raises:
        EndpointError: If it is not a URL of a server.
    """
    address = text.rstrip("/").removesuffix("/v1")
    try:
        is_address = address.startswith(("http://", "https://")) and bool(httpx.URL(address).host)
    except httpx.InvalidURL:
        is_address = False
    if not is_address:
        raise EndpointError(
            f"endpoint {text!r} is no address; give one like http://host:8000, or a file that lists such addresses"
        )
    return address


def _message(response: httpx.Response) -> str:
    try:
        return str(response.json()["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return " ".join(response.text.split())[:200] or response.reason_phrase
