"""The matrix products of a training step alone, a lower bound of its time in NumPy.

For each layer, these are the products of the forward pass, of the weight gradients and of the input
gradient. The first trained layer has no input gradient. The products have textbook shapes, and
write to existing arrays. A convolution multiplies its weights with the matrix of patches. A
recurrent layer has one product for all inputs, and one product per time step for the state.
"""

import math

import numpy as np

from npdl import random


def floor_step(workload):
    """Return a function that computes the products of a number of steps."""
    products = matrix_products(workload)

    def run(count):
        for _ in range(count):
            for a, b, out in products:
                np.matmul(a, b, out=out)

    return run


def matrix_products(workload):
    """Return the factors of each product of a step, and the array for the result, in order."""
    generator = random.generator(2)
    forward, backward = [], []
    shape, input_grad = (workload.batch, *workload.shape), False
    for part, params in zip(workload.model.call.positional, workload.params(), strict=True):
        call = part.call
        if call.name in PRODUCTS:
            make = Products(generator)
            PRODUCTS[call.name](make, shape, input_grad, *call.positional, **call.keywords)
            forward += make.forward
            backward = make.backward + backward
        input_grad = input_grad or bool(params)
        shape = (workload.batch, *part.out_shape(shape[1:]))
    return forward + backward


class Products:
    """The operands and results of the products of one layer."""

    def __init__(self, generator):
        self.generator, self.forward, self.backward = generator, [], []

    def array(self, *shape):
        return self.generator.standard_normal(shape, np.float32)

    def linear(self, rows, inputs, outputs, input_grad=True):
        """Add y = x W, dW = xᵀ g and dx = g Wᵀ."""
        x, weight = self.array(rows, inputs), self.array(inputs, outputs)
        g = self.array(rows, outputs)
        self.forward.append((x, weight, np.empty_like(g)))
        self.backward.append((x.T, g, np.empty_like(weight)))
        if input_grad:
            self.backward.append((g, weight.T, np.empty_like(x)))

    def both(self, a, b):
        """Add a batched product of two arrays with gradients, one product per pair of matrices."""
        out = np.matmul(a, b)
        g = self.array(*out.shape)
        self.forward.append((a, b, out))
        self.backward.append((g, b.swapaxes(-1, -2), np.empty_like(a)))
        self.backward.append((a.swapaxes(-1, -2), g, np.empty_like(b)))


def dense(make, shape, input_grad, units):
    make.linear(math.prod(shape[:-1]), shape[-1], units, input_grad)


def conv2d(make, shape, input_grad, filters, kernel_size, padding="valid"):
    batch, channels, *sizes = shape
    places = math.prod(n if padding == "same" else n - kernel_size + 1 for n in sizes)
    make.linear(batch * places, channels * kernel_size**2, filters, input_grad)


def recurrent(gates):
    def add(make, shape, input_grad, units, return_sequence=False):
        batch, time, features = shape
        make.linear(batch * time, features, gates * units, input_grad)
        weight = make.array(units, gates * units)
        states, g = make.array(time, batch, units), make.array(time, batch, gates * units)
        make.forward += zip(states, [weight] * time, np.empty_like(g), strict=True)
        make.backward += zip(g, [weight.T] * time, np.empty_like(states), strict=True)
        rows = batch * time
        make.backward.append(
            (states.reshape(rows, -1).T, g.reshape(rows, -1), np.empty_like(weight))
        )

    return add


def transformer_encoder_block(make, shape, input_grad, heads, hidden_units):
    batch, time, features = shape
    rows, size = batch * time, features // heads
    make.linear(rows, features, 3 * features)
    queries, keys, values = (make.array(batch, heads, time, size) for _ in range(3))
    make.both(queries, keys.swapaxes(-1, -2))
    make.both(make.array(batch, heads, time, time), values)
    make.linear(rows, features, features)
    make.linear(rows, features, hidden_units)
    make.linear(rows, hidden_units, features)


PRODUCTS = {
    "conv2d": conv2d,
    "dense": dense,
    "gru": recurrent(3),
    "lstm": recurrent(4),
    "transformer_encoder_block": transformer_encoder_block,
}
