"""Small layers that record the calls of combinators."""

import numpy as np

import npdl.functional as F


@F.layer
def noisy(log):
    """Keep the input; write the keys of `init` and `apply` into the log."""

    def init(rng, shape):
        log.append(("init", rng))
        return ()

    def apply(params, x, *, train, rng):
        log.append(("apply", train, rng))
        return x, None

    return F.Layer(init, apply, lambda params, cache, g: ((), g), lambda shape: shape)


@F.layer
def caching(log):
    """Keep the input; write whether the cache was wanted into the log."""

    def apply(params, x, *, keep_cache):
        log.append(keep_cache)
        return x, "kept" if keep_cache else None

    return F.Layer(
        lambda rng, shape: (), apply, lambda params, cache, g: ((), g), lambda shape: shape
    )


@F.layer
def spy(log, name, trained=True):
    """Multiply by a number; write each backward, and whether the input's gradient was wanted."""

    def init(rng, shape):
        return {"a": np.full((), 2, np.float32)} if trained else ()

    def apply(params, x):
        return (params["a"] if trained else np.float32(2)) * x, x

    def backward(params, x, g, *, input_grad=True):
        log.append((name, input_grad))
        grads = {"a": np.sum(g * x)} if trained else ()
        a = params["a"] if trained else np.float32(2)
        return grads, a * g if input_grad else None

    return F.Layer(init, apply, backward, lambda shape: shape)


@F.layer
def counting():
    """Count the examples of training; that number is a statistic, which is not trained."""

    def init(rng, shape):
        return {"seen": np.zeros((), np.float32)}

    def apply(params, x, *, train):
        return x, np.float32(len(x)) if train else None

    def update_stats(params, cache):
        return params if cache is None else {"seen": params["seen"] + cache}

    return F.Layer(
        init, apply, lambda params, cache, g: ({"seen": None}, g), lambda s: s, update_stats
    )


@F.layer
def failing(where="apply"):
    """Raise in one of its functions."""

    def fail(here):
        if here == where:
            raise ZeroDivisionError(f"broken in {here}")

    def init(rng, shape):
        fail("init")
        return {"weight": np.ones((2, 3), np.float32)}

    def apply(params, x):
        fail("apply")
        return x, None

    def backward(params, cache, g):
        fail("backward")
        return {"weight": np.zeros((2, 3), np.float32)}, g

    return F.Layer(init, apply, backward, lambda shape: shape)


@F.layer
def split():
    """Give two outputs: the input, and twice the input."""
    return F.Layer(
        lambda rng, shape: (),
        lambda params, x: ((x, 2 * x), None),
        lambda params, cache, g: (
            (),
            sum(k * p for k, p in ((1, g[0]), (2, g[1])) if p is not None),
        ),
        lambda shape: (shape, shape),
    )


@F.layer
def masked_sum():
    """Take a sequence and a mask or `None`, and sum over time."""

    def apply(params, inputs):
        x, mask = inputs
        weights = np.ones(x.shape[:2], x.dtype) if mask is None else mask.astype(x.dtype)
        return np.einsum("nt,ntf->nf", weights, x), weights

    def backward(params, weights, g):
        return (), (weights[:, :, None] * g[:, None], None)

    return F.Layer(lambda rng, shape: (), apply, backward, lambda shape: shape[0][1:])


def notes_of(call):
    """Return the notes of the error of a call, innermost first."""
    try:
        call()
    except Exception as error:
        return error.__notes__
    raise AssertionError("there was no error")
