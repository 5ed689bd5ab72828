"""The protocol of recurrent cells: one step forward, one step backward, and memory for steps."""

import operator
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from npdl.functional._layer import Params
from npdl.tree import Array

__all__ = ["Cell", "Memory", "States", "before_steps", "by_step", "one_or_tuple"]

# For each array of the state a list of (units, batch): the initial one, and one after each step.
States = tuple[list[Array], ...]
Finish = Callable[[Array], dict[str, Array]]


class Memory(NamedTuple):
    """Memory for an array per time step. If no backward pass follows, the steps share it."""

    time: int
    batch: int
    dtype: Any
    keep: bool

    def state(self, units: int) -> list[Array]:
        """Return arrays (units, batch): the initial state, and the state after each step."""
        count = self.time + 1
        if self.keep:
            return list(np.empty((count, units, self.batch), self.dtype))
        before, after = np.empty((2, units, self.batch), self.dtype)
        return ([before, after] * count)[:count]

    def steps(self, rows: int, views: Callable[[Array], Any] = lambda a: a) -> list[Any]:
        """Return for each step ``views(a)`` of an array `a` of shape (rows, batch)."""
        count = self.time if self.keep else 1
        made = [views(a) for a in np.empty((count, rows, self.batch), self.dtype)]
        return made if self.keep else made * self.time


class Cell(NamedTuple):
    """One step of a recurrent layer, forward and backward.

    The sizes: `z` and its gradient `dz` are (gates · units, time, batch).
    """

    name: str
    # The names of the blocks of columns in weight, recurrent_weight and bias.
    gates: tuple[str, ...]
    # forward(params, z, states, memory) -> (step, kept), where z is ``Wᵀx + b`` of all steps. In a
    # joined cell, z is a function z(t, out) that writes ``Uᵀh + Wᵀx + b`` of step t into `out`.
    # step(t) writes states[...][t + 1] from states[...][t], and returns the caches of activations.
    forward: Callable[[Params, Any, States, Memory], tuple[Callable[[int], Any], Any]]
    # backward(params, states, kept, caches, dz) -> (step, finish): step(t, *d_states) overwrites
    # the gradients of the states after step t with those before it, and sets dz[:, t].
    # finish(dz_matrix) returns the gradients of all parameters but weight and bias.
    backward: Callable[[Params, States, Any, list[Any], Array], tuple[Callable[..., None], Finish]]
    # Whether one matrix product of (U, W, b) and (h, x, 1) computes all gate inputs of a step.
    joined: bool = False
    # Number of arrays in the state; the first one is the output.
    states: int = 1
    biases: tuple[str, ...] = ("bias",)
    # The b in z.
    input_bias: Callable[[Params], Array] = operator.itemgetter("bias")
    # Constants to add to the initial biases of gates.
    shifts: dict[str, float] = {}  # noqa: RUF012 - never written to


def by_step(z: Array) -> list[Array]:
    """Return the views (rows, batch) of (rows, time, batch)."""
    return list(z.transpose(1, 0, 2))


def before_steps(arrays: list[Array]) -> Array:
    """Join all arrays (units, batch) but the last into a matrix (units, time · batch)."""
    none = arrays[0][:, :0]  # for sequences of length zero
    return np.concatenate([none, *arrays[:-1]], axis=1)


def one_or_tuple(arrays: tuple[Any, ...]) -> Any:
    """Return a state of one array as this array, other states as a tuple."""
    return arrays[0] if len(arrays) == 1 else arrays
