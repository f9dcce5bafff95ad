"""Sampling groups of completions from a reasoning model.

The engine is in `polaris_rollout.engines.vllm`, imported on its own because it takes seconds to load.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
