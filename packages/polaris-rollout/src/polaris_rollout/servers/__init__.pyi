from .sampler import ServerSampler as ServerSampler
from .server import Patience as Patience
