"""The engines of all ranks as one sampler in the hands of rank 0."""

from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice

import torch.distributed as dist
from polaris_rollout import Group, Prompt, Sampler, SamplingParams

PROMPTS_PER_RANK = 512
"""Prompts that each rank is asked for at once, on average; rank 0 sees their groups when all are done."""

_Request = tuple[Sequence[Prompt], SamplingParams, int]


@contextmanager
def all_engines(sampler: Sampler) -> Generator[Sampler | None]:
    """Give rank 0 a sampler that draws with every rank's engine; collective.

    The other ranks get ``None``, once rank 0 has left its block: until then they sample what it asks for. A single
    rank gets its own sampler, which yields groups as they finish.

    Args:
        sampler: Of this rank; given the same prompts on all ranks, it yields this rank's share of the groups.
    """
    if dist.get_world_size() == 1:
        yield sampler
    elif dist.get_rank() == 0:
        yield _Leader(sampler)
        _sample_together(None, sampler)
    else:
        while _sample_together(None, sampler) is not None:
            pass
        yield None


class _Leader:
    """What rank 0 samples with."""

    def __init__(self, sampler: Sampler) -> None:
        self._sampler = sampler

    def sample(self, prompts: Iterable[Prompt], params: SamplingParams, *, n: int) -> Iterator[Group]:
        """Yield the groups of as many prompts as the ranks are asked for at once, then those of the next."""
        left = iter(prompts)
        while asked := list(islice(left, PROMPTS_PER_RANK * dist.get_world_size())):
            yield from _sample_together((asked, params, n), self._sampler) or []


def _sample_together(request: _Request | None, sampler: Sampler) -> list[Group] | None:
    """Sample what rank 0 requests and return all groups there, none elsewhere; ``None`` if it requests nothing."""
    requests = [request]
    dist.broadcast_object_list(requests, src=0)
    if requests[0] is None:
        return None
    prompts, params, n = requests[0]
    share = list(sampler.sample(prompts, params, n=n))
    shares: list[list[Group]] | None = [[] for _ in range(dist.get_world_size())] if dist.get_rank() == 0 else None
    dist.gather_object(share, shares, dst=0)
    return [group for each in shares or [] for group in each]
