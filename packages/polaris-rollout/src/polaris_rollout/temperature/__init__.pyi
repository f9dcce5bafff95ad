from .diversity import distinct_n as distinct_n
