"""Helper functions of the stateful API: one-hot labels, the generator, the data type."""

from npdl.compat.utils.data import one_hot, unhot
from npdl.compat.utils.random import get_dtype, get_rng, set_dtype, set_rng, set_seed

__all__ = ["get_dtype", "get_rng", "one_hot", "set_dtype", "set_rng", "set_seed", "unhot"]
