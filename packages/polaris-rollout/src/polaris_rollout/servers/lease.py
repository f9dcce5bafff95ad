"""How long a server's work has been without a token, by what the server counts."""

import time
from dataclasses import dataclass

from polaris_rollout.servers.client import ServerLoad


@dataclass(slots=True)
class Lease:
    """Renewed whenever a server has sampled a token for each completion that it works on.

    A server samples one token of each at a time, so one that takes longer for that than the lease drips or hangs, and
    one that samples nothing while answers are waited for has lost them.
    """

    began: float = 0.0
    """Monotonic time of the latest renewal."""

    sampled_tokens: int = 0
    """By the server's count at that time; less after a restart."""

    def note(self, load: ServerLoad, *, is_waited_for: bool, length_s: float) -> str | None:
        """Take in what a server says, and say what is wrong once the lease has run out.

        Args:
            load: What it says.
            is_waited_for: Whether anything that it should be working on is ours.
            length_s: Of a lease, in seconds.
        """
        now = time.monotonic()
        grown = load.sampled_tokens - self.sampled_tokens
        if not is_waited_for or not 0 <= grown < max(1, load.running):
            self.began, self.sampled_tokens = now, load.sampled_tokens
        if now - self.began <= length_s:
            return None
        return f"sampled {grown} tokens for {load.running} completions in {now - self.began:.0f} s"
