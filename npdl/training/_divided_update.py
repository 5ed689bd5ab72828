"""An update that the ranks of a job divide among themselves."""

from typing import Any

from npdl.distributed._agreement import check_agreement
from npdl.distributed._exchange import Exchange, PartSums
from npdl.functional.optimizers._layout import Layout, plain
from npdl.functional.optimizers._optimizer import Optimizer, sum_of_squares
from npdl.functional.optimizers._packed import Packed
from npdl.training._train_state import TrainState

__all__ = ["Division"]


class Division:
    """The exchange between the ranks of a run, and the state that lies in its memory.

    The first step decides the layout, and each rank computes its whole update. Then the parameters
    and the state of an element-wise optimizer move into the memory of the exchange. In further
    steps, each rank updates its own part. Other optimizers only add up the gradients there.

    Parameters
    ----------
    comm : communicator
        An MPI communicator.
    shards : int
        The number of shards.
    closes : bool
        Whether the caller calls :meth:`close` at the end. Otherwise, states only lie in memory that
        needs no such call.
    """

    def __init__(self, comm: Any, shards: int, closes: bool = False) -> None:
        self.comm, self.shards, self.closes = comm, shards, closes
        self.exchange: Exchange | None = None

    def options(self, state: TrainState, optimizer: Optimizer) -> dict[str, Any]:
        """Return the options of :func:`over_shards` for a step from this state."""
        packed, exchange = state.packed, self.exchange
        divided = (
            packed is not None
            and exchange is not None
            and packed.vectors[0] is exchange.arrays[0][0]
            and packed.serves(optimizer)
            and (exchange.is_shared or optimizer.elementwise)
        )
        return {"exchange": exchange, "divided": divided}

    def updated(
        self, state: TrainState, optimizer: Optimizer, grads: Any, donate: bool
    ) -> TrainState:
        """Return the state after an update, like `TrainState.updated`."""
        exchange, packed = self.exchange, state.packed
        if isinstance(grads, PartSums) and packed is not None and exchange is not None:
            factor = None
            if not optimizer.elementwise:
                grads, factor = self._totals(packed, exchange, grads)
            after = packed.update_parts(exchange.parts, grads, factor)
            exchange.complete()
            return TrainState(state.step + 1, after.params, after, state.rng)
        state = state.updated(optimizer, grads, donate)
        if donate and (packed := state.packed):
            return self._moved(state, packed)
        if exchange is None or exchange.layout.gradients(grads) is None:
            self.close()
            if plain(state.params) and (layout := Layout(grads, state.params)).groups:
                self.exchange = Exchange(self.comm, self.shards, layout, 0)
        return state

    def close(self) -> None:
        """Free the memory; all ranks must call it, after their last step."""
        if self.exchange is not None:
            self.exchange.close()
        self.exchange = None

    def _totals(
        self, packed: Packed, exchange: Exchange, sums: PartSums
    ) -> tuple[list[Any], float | None]:
        """Return this rank's part of the gradients, and the factor of all gradients."""
        vectors = exchange.totals(sums)
        gradients = [g for g in packed.layout.arrays(vectors, []) if g is not None]
        # Each rank computes the squares of some gradients, all add them in the same order.
        mine = range(exchange.rank, len(gradients), exchange.ranks)
        squares: list[float] = [0.0] * len(gradients)
        for rank, found in enumerate(exchange.gather([sum_of_squares(gradients[i]) for i in mine])):
            squares[rank :: exchange.ranks] = found
        parts = zip(vectors, exchange.parts, strict=True)
        return [vector[part] for vector, part in parts], packed.factor(gradients, squares)

    def _moved(self, state: TrainState, packed: Packed) -> TrainState:
        """Return the same state in the memory of the exchange, if its updates can be divided."""
        arrays = packed.arrays()
        if self.exchange is None or self.exchange.layout is not packed.layout:
            self.close()
            self.exchange = Exchange(self.comm, self.shards, packed.layout, len(arrays[0]) - 1)
        exchange = self.exchange
        if not exchange.is_shared and not (packed.optimizer.elementwise and self.closes):
            return state
        # Different values on the ranks would be mixed, so a check of later values would pass.
        check_agreement(self.comm, params=state.params, opt_state=state.opt_state)
        for part, old, new in zip(exchange.parts, arrays, exchange.arrays, strict=True):
            for source, target in zip(old, new, strict=True):
                target[part] = source[part]
        exchange.expose()
        placed = packed.placed(exchange.arrays, exchange.fetch)
        exchange.complete()
        return TrainState(state.step, placed.params, placed, state.rng)
