"""Giving one server other weights: paused with its work kept, loaded, asked what it holds now, resumed.

While a server is paused nothing is sampled, and vLLM names with every token the version that was held when it was
sampled (`Completion.weights`): the boundary between two versions is exact. What was in flight goes on under the new
weights from the tokens it has, their keys and values computed anew: that costs one prefill of all that is in flight.
"""

import hashlib
from collections.abc import Mapping
from typing import Any

from polaris_rollout.errors import EndpointError
from polaris_rollout.servers.client import TOKEN_ROUTE, Endpoint
from polaris_rollout.servers.connection import EndpointDownError
from polaris_rollout.transfer.files import BACKEND, StoredWeights

_HASH_OF_NOTHING = hashlib.sha256().hexdigest()

_START = (
    "VLLM_SERVER_DEV_MODE=1 vllm serve MODEL --enable-scale-out --logprobs-mode processed_logprobs "
    f"""--weight-transfer-config '{{"backend": "{BACKEND}"}}'"""
)


async def require_transfer(endpoint: Endpoint) -> None:
    """Refuse a server that cannot take weights, and make one ready that a killed trainer left paused.

    Raises:
        EndpointError: Saying how to start it.
        EndpointDownError: If it cannot be reached.
    """
    try:
        await endpoint.request("POST", "/init_weight_transfer_engine", {"init_info": {"backend": BACKEND}})
        if await _told(endpoint, "GET", "/is_paused", "is_paused"):
            await endpoint.request("POST", "/resume")
        lacks = "" if endpoint.has_token_route else f"{endpoint.address} does not open {TOKEN_ROUTE}"
    except (EndpointDownError, EndpointError) as error:
        if isinstance(error, EndpointDownError) and error.status is None:
            raise
        lacks = str(error)
    if lacks:
        raise EndpointError(
            f"{lacks} (vLLM {await endpoint.release() or 'of an unknown release'}); for a trainer restart it, on a "
            f"loopback or private address, with vLLM 0.32 or later: {_START}"
        )


async def load_weights(endpoint: Endpoint, weights: StoredWeights) -> dict[str, str]:
    """Give a server weights and let it go on; if anything fails it stays paused, for nothing to be drawn from them.

    Returns:
        SHA-256 of each of its tensors that has a content; vLLM on CPU packs most weights and keeps empty tensors.

    Raises:
        EndpointError: If it refuses.
        EndpointDownError: If it fails, or says that it holds another version.
    """
    await endpoint.request("POST", "/pause?mode=keep")
    try:
        await endpoint.request("POST", "/start_weight_update")
    except EndpointDownError:  # A trainer was killed within an update, which is still open.
        await endpoint.request("POST", "/finish_weight_update")
        await endpoint.request("POST", "/start_weight_update")
    await endpoint.request("POST", "/update_weights", {"update_info": weights.update_info()})
    await endpoint.request("POST", "/finish_weight_update", {"weight_version": weights.version})
    if (held := await endpoint.weight_version()) != weights.version:
        held = held or "default"
        raise EndpointDownError(f"{endpoint.address} holds weights {held!r} after it was given {weights.version!r}")
    sums = await _told(endpoint, "POST", "/weight_checker", "checksums", {"action": "checksum"})
    await endpoint.request("POST", "/resume")
    return {name: found for name, found in dict(sums).items() if found != _HASH_OF_NOTHING}


def other_sums(sums: Mapping[str, str], reference: Mapping[str, str]) -> str | None:
    """Return the first tensor of which both have a checksum and not the same; ``None`` if there is none."""
    return next((name for name in sorted(sums.keys() & reference.keys()) if sums[name] != reference[name]), None)


async def _told(endpoint: Endpoint, method: str, path: str, name: str, body: dict[str, Any] | None = None) -> Any:
    answer = await endpoint.ask(method, path, body)
    if not isinstance(answer, dict) or name not in answer:
        raise EndpointDownError(f"{endpoint.address} answered {path} without {name!r}: {answer!r:.200}", 200)
    return answer[name]
