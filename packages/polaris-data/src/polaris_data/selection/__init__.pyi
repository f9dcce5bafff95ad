from .decisions import PUBLISHED_FOR_PROFILES as PUBLISHED_FOR_PROFILES
from .decisions import attempts_of as attempts_of
