"""A run of a recipe as a job: the files that SLURM, Kubernetes and SkyPilot take.

Names are in ``__init__.pyi`` and imported when they are first used.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
