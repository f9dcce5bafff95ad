from .files import BACKEND as BACKEND
from .files import StoredWeights as StoredWeights
from .files import checkpoint_shapes as checkpoint_shapes
from .files import read_weights as read_weights
from .files import store_weights as store_weights
from .files import with_tied_head as with_tied_head
