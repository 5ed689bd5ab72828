"""The state of training: all that decides the next number, as one tree."""

from typing import Any

import attrs
import numpy as np

from npdl import random, tree
from npdl.functional.layer import Layer, Params, Shape
from npdl.functional.transforms import Optimizer, apply_updates
from npdl.packed import Packed, pack

__all__ = ["TrainState"]


@attrs.frozen(eq=False, slots=False)
class TrainState:
    """All that training changes; a tree.

    The keys of dropout follow from (rng, step), the order of the data from (rng, epoch), and the
    schedules from the counts in the optimizer's state.

    Parameters
    ----------
    step : int
        Number of steps made.
    params : tree
        The parameters of the model, with its running statistics.
    opt_state : tree
        The state of the optimizer.
    rng : key
        The key of the whole run.

    Examples
    --------
    >>> from npdl.training import TrainState
    >>> import npdl.functional as F
    >>> from npdl import tree
    >>> state = TrainState.create(F.dense(2), F.momentum(0.1), shape=(3,), rng=0)
    >>> state.step, tree.paths(state)[:4]
    (0, ['step', 'params/bias', 'params/weight', 'opt_state/0/velocity/bias'])
    """

    step: int
    params: Params
    opt_state: Any
    rng: random.Key

    @classmethod
    def create(
        cls, model: Layer, optimizer: Optimizer, shape: Shape, rng: random.KeyLike = 0
    ) -> "TrainState":
        """Return the state before the first step.

        Parameters
        ----------
        model : Layer
            The model.
        optimizer : Optimizer
            The optimizer.
        shape : tuple
            The shape of one example, without the batch.
        rng : key
            Decides the initial parameters and all that is random in training.

        Examples
        --------
        >>> from npdl.training import TrainState
        >>> import npdl.functional as F
        >>> TrainState.create(F.dense(2), F.sgd(0.1), shape=(3,), rng=1).step
        0
        """
        if not isinstance(model, Layer):
            raise TypeError(f"expected a layer as the model, got {model!r}")
        if not isinstance(optimizer, Optimizer):
            raise TypeError(f"expected an optimizer, such as F.adam(1e-3), got {optimizer!r}")
        key = random.key(rng)
        params = model.init(random.fold(key, "init"), shape)
        return cls(0, params, optimizer.init(params), key)

    # A step leaves the parameters and the optimizer's state packed for the next step, beside the
    # fields. The optimizer's state is made a tree when somebody looks at it.

    def updated(self, optimizer: Optimizer, grads: Any, donate: bool = False) -> "TrainState":
        """Return the state after one update of the parameters, with the next step's number.

        With `donate`, the arrays of this state may be overwritten.
        """
        packed = self.__dict__.get("packed")
        after = packed.update(optimizer, grads, donate) if packed is not None else None
        if after is None and (packed := pack(optimizer, grads, self.opt_state, self.params)):
            after = packed.update(optimizer, grads, donate)
        if after is None:
            updates, opt_state = optimizer.update(grads, self.opt_state, self.params)
            params = apply_updates(self.params, updates)
            # In C order, as a checkpoint brings them back, since sums in another order may have
            # other bits.
            params, opt_state = tree.map(_in_c_order, (params, opt_state))
            return TrainState(self.step + 1, params, opt_state, self.rng)
        return self._with(after, self.step + 1)

    def with_params(self, params: Params) -> "TrainState":
        """Return the state with other running statistics among its parameters."""
        packed = self.__dict__.get("packed")
        if packed is None:
            return attrs.evolve(self, params=params)
        return self._with(packed._replace(params=params), self.step)

    def _with(self, packed: Packed, step: int) -> "TrainState":
        state = TrainState.__new__(TrainState)
        state.__dict__.update(step=step, params=packed.params, rng=self.rng, packed=packed)
        return state

    def __getattr__(self, name: str) -> Any:
        packed = self.__dict__.get("packed")
        if name != "opt_state" or packed is None:
            raise AttributeError(f"a TrainState has no attribute {name!r}")
        return self.__dict__.setdefault("opt_state", packed.opt_state())

    def __getstate__(self) -> dict[str, Any]:
        return {field.name: getattr(self, field.name) for field in attrs.fields(TrainState)}


def _in_c_order(leaf: Any) -> Any:
    if isinstance(leaf, np.ndarray) and not leaf.flags.c_contiguous:
        return leaf.copy()
    return leaf
