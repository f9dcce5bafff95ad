from .sampler import ServerSampler as ServerSampler
from .scores import TokenScorer as TokenScorer
from .server import Patience as Patience
from .texts import TextSampler as TextSampler
from .texts import are_text_only as are_text_only
from .texts import join_reasoning as join_reasoning
