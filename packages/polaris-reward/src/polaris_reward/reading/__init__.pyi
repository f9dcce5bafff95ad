from .cursor import Reading as Reading
from .parser import parse as parse
from .refusals import TooLarge as TooLarge
from .refusals import Unreadable as Unreadable
from .refusals import Unsupported as Unsupported
from .tree import Node as Node
