"""Means, votes, lengths and comparisons, with intervals."""
