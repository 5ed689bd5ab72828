"""A model of npdl as a JAX function ``f(params, x)`` of the same parameters.

Each function builds the counterpart of the constructor with its name, from the constructor's
arguments.
"""

import jax
import jax.numpy as jnp
from jax import lax


def function(model):
    """Return a function with the same outputs as the model of npdl."""
    call = model.call
    return FUNCTIONS[call.name](*call.positional, **call.keywords)


def serial(*layers):
    functions = list(map(function, layers))

    def apply(params, x):
        for layer, of_layer in zip(functions, params, strict=True):
            x = layer(of_layer, x)
        return x

    return apply


def dense(units):
    return lambda params, x: x @ params["weight"] + params["bias"]


def conv2d(filters, kernel_size, padding="valid"):
    def apply(params, x):
        y = lax.conv_general_dilated(x, params["weight"], (1, 1), padding.upper())
        return y + params["bias"][:, None, None]

    return apply


def max_pool2d(size):
    window = (1, 1, size, size)
    return lambda params, x: lax.reduce_window(x, -jnp.inf, lax.max, window, window, "VALID")


def lstm(units, return_sequence=False):
    def apply(params, x):
        def step(state, z):
            h, c = state
            g, i, f, o = jnp.split(z + h @ params["recurrent_weight"], 4, axis=-1)
            c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
            h = jax.nn.sigmoid(o) * jnp.tanh(c)
            return (h, c), h

        zeros = jnp.zeros((len(x), units), x.dtype)
        return over_time(step, (zeros, zeros), params, x, return_sequence)

    return apply


def gru(units, return_sequence=False):
    def apply(params, x):
        def step(h, z):
            a = h @ params["recurrent_weight"] + params["recurrent_bias"]
            both = jax.nn.sigmoid(z[:, : 2 * units] + a[:, : 2 * units])
            n = jnp.tanh(z[:, 2 * units :] + both[:, :units] * a[:, 2 * units :])
            h = n + both[:, units:] * (h - n)
            return h, h

        zeros = jnp.zeros((len(x), units), x.dtype)
        # Unrolling makes this scan faster by a fifth, but not the LSTM's.
        return over_time(step, zeros, params, x, return_sequence, unroll=True)

    return apply


def over_time(step, state, params, x, return_sequence, unroll=False):
    """Run the steps over (batch, time, features), with one matrix product for all inputs."""
    z = x.swapaxes(0, 1) @ params["weight"] + params["bias"]
    _, outputs = lax.scan(step, state, z, unroll=unroll)
    return outputs.swapaxes(0, 1) if return_sequence else outputs[-1]


def transformer_encoder_block(heads, hidden_units):
    def apply(params, x):
        x = x + attention(params["attention"], heads, layer_norm(params["attention_norm"], x))
        first, *_, second = params["feed_forward"]
        y = layer_norm(params["feed_forward_norm"], x) @ first["weight"] + first["bias"]
        return x + jax.nn.relu(y) @ second["weight"] + second["bias"]

    return apply


def attention(params, heads, x):
    batch, time, features = x.shape
    parts = (x @ params["weight"] + params["bias"]).reshape(batch, time, 3, heads, -1)
    mixed = jax.nn.dot_product_attention(*(parts[:, :, i] for i in range(3)))
    return mixed.reshape(batch, time, features) @ params["output_weight"] + params["output_bias"]


def layer_norm(params, x):
    y = jax.nn.standardize(x, epsilon=1e-5)
    return y * params["scale"] + params["shift"]


FUNCTIONS = {
    "conv2d": conv2d,
    "dense": dense,
    "embedding": lambda vocabulary, units: lambda params, x: params["table"][x],
    "flatten": lambda: lambda params, x: x.reshape(len(x), -1),
    "gru": gru,
    "lstm": lstm,
    "max_pool2d": max_pool2d,
    "mean_over_time": lambda: lambda params, x: x.mean(axis=1),
    "relu": lambda: lambda params, x: jax.nn.relu(x),
    "serial": serial,
    "transformer_encoder_block": transformer_encoder_block,
}
