"""How much memory a cache holds, and a call takes."""

import tracemalloc

import numpy as np

from npdl import tree


def held(cache):
    """Return the bytes that the arrays of a cache keep alive, each piece of memory once."""
    owners = {}
    for array in tree.leaves(cache):
        if isinstance(array, np.ndarray):
            while isinstance(array.base, np.ndarray):
                array = array.base
            owners[id(array)] = array.nbytes
    return sum(owners.values())


def peak(call):
    """Return the most bytes that a call has at one time, its result among them, and the result."""
    tracemalloc.start()
    try:
        result = call()
        return tracemalloc.get_traced_memory()[1], result
    finally:
        tracemalloc.stop()
