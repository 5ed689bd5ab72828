"""The table of layers: every constructor, with shapes whose sizes all differ.

`tests/functional/test_layers.py` runs every check that a layer must pass over each row.
"""

from collections.abc import Callable
from typing import Any

import attrs
import numpy as np

import npdl.functional as F
from npdl import random, tree


def normal(generator: np.random.Generator, batch: int, shape: Any) -> Any:
    """Normal float32 numbers, for one shape or for several."""
    if shape and isinstance(shape[0], tuple):
        return tuple(normal(generator, batch, part) for part in shape)
    return generator.normal(size=(batch, *shape)).astype(np.float32)


@attrs.frozen
class Case:
    """One row: a layer, the shape of an example, and what is special about it."""

    layer: F.Layer
    shape: Any
    inputs: Callable[[np.random.Generator, int, Any], Any] = normal
    # Paths of parameters that are not trained: their gradient must be None, all others not.
    untrained: tuple[str, ...] = ()
    # Whether the layer needs a key in training.
    random: bool = False
    # Whether evaluation needs statistics first, which one step in training mode makes.
    statistics: bool = False
    # Whether a batch of no examples is an error (a batch norm has no statistics of it).
    empty: bool = True

    def x(self, batch: int, seed: int = 1) -> Any:
        return self.inputs(random.generator((seed, batch)), batch, self.shape)

    def params(self, dtype: Any = np.float32) -> Any:
        """Initial parameters with some noise, so that none is zero."""
        params = self.layer.init(0, self.shape)
        generator = random.generator(7)
        noisy = tree.unflatten(
            params,
            [
                leaf
                if path in self.untrained
                else (leaf + 0.1 * generator.normal(size=leaf.shape)).astype(leaf.dtype)
                for path, leaf in tree.items(params)
            ],
        )
        if self.statistics:
            _, cache = self.layer.apply(noisy, self.x(6, seed=2), train=True, rng=3)
            noisy = self.layer.update_stats(noisy, cache)
        return tree.astype(noisy, dtype)


CASES: dict[str, Case] = {}


def add(name: str, layer: F.Layer, shape: Any, **special: Any) -> None:
    assert name not in CASES, name
    CASES[name] = Case(layer, shape, **special)


# dense
add("dense", F.dense(5), (3,))
add("dense without bias", F.dense(5, bias=False), (3,))
add("dense over leading axes", F.dense(5), (2, 4, 3))

# combinators
add("serial", F.serial(F.dense(4), F.dense(2)), (3,))
add("empty serial", F.serial(), (3,))
add("residual", F.residual(F.dense(4), F.dense(3)), (3,))
add("parallel, added", F.parallel(F.dense(4), F.serial(F.dense(2), F.dense(4))), (3,))
add("parallel, multiplied", F.parallel(F.dense(4), F.dense(4), F.dense(4), join="multiply"), (3,))
add("parallel, concatenated", F.parallel(F.dense(4), F.dense(2), join="concatenate"), (3,))
add("parallel, a tuple", F.parallel(F.dense(4), F.dense(2), join=None), (3,))
add(
    "freeze",
    F.serial(F.dense(4), F.freeze(F.dense(2)), F.dense(5)),
    (3,),
    untrained=("1/bias", "1/weight"),
)
add(
    "graph of two inputs and two outputs",
    F.graph(
        ("left", "right"),
        {
            "wide": (F.dense(4), "left"),
            "same": (F.dense(4), "right"),
            ("first", "second"): (F.parallel(F.dense(2), F.dense(6), join=None), "wide"),
            "end": (F.dense(3), "same"),
        },
        ("second", "end", "first"),
    ),
    ((3,), (5,)),
)
