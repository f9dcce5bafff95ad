"""Problems that say the same: within a set, and between a set and the benchmarks."""
