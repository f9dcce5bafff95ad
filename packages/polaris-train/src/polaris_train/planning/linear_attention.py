"""Layers with linear attention (Qwen3.5): what they are made of, and what they keep.

Such a layer carries a state of fixed size from token to token in the place of keys and values, by the gated delta rule
(Yang et al., "Gated Delta Networks", 2024. https://arxiv.org/abs/2412.06464). What training keeps of it is counted as
transformers writes the rule in torch; kernels of their own (``flash-linear-attention``) need less.
"""

from dataclasses import dataclass

CHUNK = 64
"""Tokens that the rule takes at once."""

_WIDE = 4
"""Bytes of a float32, in which the rule is computed and its state is kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LinearAttention:
    """The layers of a model that have linear attention in the place of full."""

    layers: int
    """How many."""
    heads: int
    """Of values; where keys have fewer, these are repeated."""
    key_heads: int
    key_width: int
    """Of one head of keys."""
    value_width: int
    """Of one head of values."""
    kernel: int
    """Tokens that the convolution before the rule sees."""

    @property
    def values(self) -> int:
        """Width of all heads of values."""
        return self.heads * self.value_width

    @property
    def mixed(self) -> int:
        """Width of queries, keys and values together, which go through the convolution."""
        return 2 * self.key_heads * self.key_width + self.values

    def linears(self, hidden: int) -> tuple[tuple[int, int], ...]:
        """Return (inputs, outputs) of one layer's linear layers but those of its MLP: qkv, z, b, a, out."""
        return (hidden, self.mixed), (hidden, self.values), *[(hidden, self.heads)] * 2, (self.values, hidden)

    @property
    def other_parameters(self) -> int:
        """Of one layer besides: convolution, decay and its bias for each head, and the norm of what comes out."""
        return self.kernel * self.mixed + 2 * self.heads + self.value_width

    @property
    def state_bytes(self) -> int:
        """Of all layers, of a sequence: the state in float32, and what the convolution looks back on."""
        state = _WIDE * self.heads * self.key_width * self.value_width
        return self.layers * (state + 2 * (self.kernel - 1) * self.mixed)

    def kept_bytes(self, size: int) -> float:
        """Return what the rule, and what is around it, saves of a token in one layer for the backward pass.

        Args:
            size: Bytes of a number in the precision of the forward pass.
        """
        keys = self.heads * self.key_width
        # Queries and keys before their norm, as the products read them, and decayed; keys by their weight and as the
        # state is read with them. Values as they come, as they are solved for, and less what the state knew. Within a
        # chunk every token has five numbers for each other one; and between chunks there is a state.
        rule = 8 * keys + 3 * self.values + 5 * CHUNK * self.heads + keys * self.value_width / CHUNK
        # What comes out is normed in float32 and gated there.
        return _WIDE * (rule + 3 * self.values) + size * (2 * self.mixed + 3 * self.values)

    def working_bytes(self) -> float:
        """Return what gradients of a token in one layer need while they pass the rule: whole ones for each chunk's."""
        return _WIDE * (6 * self.heads * self.key_width + 2 * self.values + 2 * CHUNK * self.heads)
