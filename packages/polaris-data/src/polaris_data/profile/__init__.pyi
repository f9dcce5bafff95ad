from .sampling import profile as profile
