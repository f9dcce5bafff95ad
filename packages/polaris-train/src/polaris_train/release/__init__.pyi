from .hub import push_release as push_release
from .inference import Inference as Inference
from .quantizing import SCHEMES as SCHEMES
from .writing import write_release as write_release
