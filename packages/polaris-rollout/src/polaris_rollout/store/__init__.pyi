from .folder import RolloutStore as RolloutStore
from .folder import read_groups as read_groups
from .folder import read_store as read_store
from .folder import write_groups as write_groups
from .table import count_tokens as count_tokens
from .table import iterate_groups as iterate_groups
from .table import read_columns as read_columns
from .table import read_settings as read_settings
