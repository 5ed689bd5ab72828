"""Loading of Keras weights: the outputs agree with the documented formulas of Keras.

Keras is not required: this file defines its names, layouts and formulas, with loops over positions
and time steps, and channels last.
"""

import functools

import numpy as np
import pytest
from arrays import normal

import npdl.functional as F
from npdl import random, tree
from npdl.checkpoint import from_keras, to_keras

BATCH = 3


# The layers of Keras as functions of their weights, by name.


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def dense(w, x):
    return x @ w["kernel"] + w.get("bias", 0)


def conv2d(w, x, stride=1, same=False):
    height, width, _, filters = w["kernel"].shape
    if same:  # for odd kernels at stride 1
        rows, columns = height // 2, width // 2
        x = np.pad(x, ((0, 0), (rows, rows), (columns, columns), (0, 0)))
    down, across = (x.shape[1] - height) // stride + 1, (x.shape[2] - width) // stride + 1
    y = np.zeros((len(x), down, across, filters))
    for i in range(down):
        for j in range(across):
            patch = x[:, i * stride : i * stride + height, j * stride : j * stride + width]
            y[:, i, j] = np.tensordot(patch, w["kernel"], 3)
    return y + w.get("bias", 0)


def conv2d_transpose(w, x, stride):
    """With padding="valid"."""
    height, width, filters, _ = w["kernel"].shape
    _, rows, columns, _ = x.shape
    y = np.zeros((len(x), (rows - 1) * stride + height, (columns - 1) * stride + width, filters))
    for i in range(rows):
        for j in range(columns):
            spread = np.tensordot(x[:, i, j], w["kernel"], ((1,), (3,)))
            y[:, i * stride : i * stride + height, j * stride : j * stride + width] += spread
    return y + w["bias"]


def conv1d(w, x):
    image = {**w, "kernel": w["kernel"][None]}
    return conv2d(image, x[:, None])[:, 0]


def batch_normalization(w, x):
    unit = (x - w["moving_mean"]) / np.sqrt(w["moving_variance"] + 1e-3)
    return unit * w.get("gamma", 1) + w.get("beta", 0)


def layer_normalization(w, x, epsilon=1e-3):
    centered = x - x.mean(-1, keepdims=True)
    deviation = np.sqrt(np.mean(centered**2, -1, keepdims=True) + epsilon)
    return centered / deviation * w["gamma"] + w["beta"]


def group_normalization(w, x, groups):
    parts = np.split(x, groups, axis=-1)
    axes = tuple(range(1, x.ndim))
    parts = [
        (part - part.mean(axes, keepdims=True)) / np.sqrt(part.var(axes, keepdims=True) + 1e-3)
        for part in parts
    ]
    return np.concatenate(parts, axis=-1) * w["gamma"] + w["beta"]


def rms_normalization(w, x):
    return x / np.sqrt(np.mean(x**2, -1, keepdims=True) + 1e-6) * w["scale"]


def embedding(w, ids):
    return w["embeddings"][ids]


def simple_rnn(w, x):
    h, steps = 0, []
    for t in range(x.shape[1]):
        before = h @ w["recurrent_kernel"] if t else 0
        h = np.tanh(x[:, t] @ w["kernel"] + before + w.get("bias", 0))
        steps.append(h)
    return np.stack(steps, axis=1)


def lstm(w, x):
    units = len(w["recurrent_kernel"])
    h = c = np.zeros((len(x), units))
    steps = []
    for t in range(x.shape[1]):
        z = x[:, t] @ w["kernel"] + h @ w["recurrent_kernel"] + w.get("bias", 0)
        i, f, candidate, o = np.split(z, 4, axis=1)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(candidate)
        h = sigmoid(o) * np.tanh(c)
        steps.append(h)
    return np.stack(steps, axis=1)


def gru(w, x):
    """With reset_after=True, the default."""
    units = len(w["recurrent_kernel"])
    bias, recurrent_bias = w.get("bias", np.zeros((2, 3 * units)))
    h, steps = np.zeros((len(x), units)), []
    for t in range(x.shape[1]):
        xz, xr, xh = np.split(x[:, t] @ w["kernel"] + bias, 3, axis=1)
        hz, hr, hh = np.split(h @ w["recurrent_kernel"] + recurrent_bias, 3, axis=1)
        z, r = sigmoid(xz + hz), sigmoid(xr + hr)
        h = z * h + (1 - z) * np.tanh(xh + r * hh)
        steps.append(h)
    return np.stack(steps, axis=1)


def gru_reset_before(w, x):
    units = len(w["recurrent_kernel"])
    uz, ur, uh = np.split(w["recurrent_kernel"], 3, axis=1)
    h, steps = np.zeros((len(x), units)), []
    for t in range(x.shape[1]):
        xz, xr, xh = np.split(x[:, t] @ w["kernel"] + w["bias"], 3, axis=1)
        z, r = sigmoid(xz + h @ uz), sigmoid(xr + h @ ur)
        h = z * h + (1 - z) * np.tanh(xh + (r * h) @ uh)
        steps.append(h)
    return np.stack(steps, axis=1)


def bidirectional(cell, w, x):
    forward, backward = (inside(w, f"{way}_") for way in ("forward", "backward"))
    return np.concatenate([cell(forward, x), cell(backward, x[:, ::-1])[:, ::-1]], axis=-1)


def attention(w, x, context=None):
    context = x if context is None else context
    _, heads, size = w["query/kernel"].shape
    y, none = np.zeros((*x.shape[:2], w["attention_output/kernel"].shape[2])), [0] * heads
    for head in range(heads):
        query, key, value = (
            source @ w[f"{part}/kernel"][:, head] + w.get(f"{part}/bias", none)[head]
            for part, source in (("query", x), ("key", context), ("value", context))
        )
        scores = np.exp(query @ key.swapaxes(1, 2) / np.sqrt(size))
        weights = scores / scores.sum(-1, keepdims=True)
        y += weights @ value @ w["attention_output/kernel"][head]
    return y + w.get("attention_output/bias", 0)


def inside(w, prefix):
    """The weights under a prefix, without it and without the name of the cell."""
    found = {name.removeprefix(prefix): a for name, a in w.items() if name.startswith(prefix)}
    return {name.rpartition("cell/")[2]: array for name, array in found.items()}


# The weights of each layer: their names in `weight.path` and in an h5 file, and their shapes.


def biased(kernel, *bias):
    shapes = {"kernel": kernel, "bias": bias or kernel[-1:]}
    return [(name, f"vars/{i}", shape) for i, (name, shape) in enumerate(shapes.items())]


def vectors(size, *names):
    return [(name, f"vars/{i}", (size,)) for i, name in enumerate(names)]


def cell(kind, features, units, blocks, bias=None, folder="", h5_folder=""):
    shapes = {"kernel": (features, blocks * units), "recurrent_kernel": (units, blocks * units)}
    shapes |= {"bias": bias or (blocks * units,)} if bias != () else {}
    return [
        (f"{folder}{kind}_cell/{name}", f"{h5_folder}cell/vars/{i}", shape)
        for i, (name, shape) in enumerate(shapes.items())
    ]


def both_ways(kind, features, units, blocks, bias=None):
    return [
        entry
        for way in ("forward", "backward")
        for entry in cell(kind, features, units, blocks, bias, f"{way}_{kind}/", f"{way}_layer/")
    ]


def heads(features, others, count, size, out, bias=True):
    parts = {"query": features, "key": others, "value": others}
    found = []
    for part, inputs in parts.items():
        found.append((f"{part}/kernel", f"{part}_dense/vars/0", (inputs, count, size)))
        found.append((f"{part}/bias", f"{part}_dense/vars/1", (count, size)))
    found.append(("attention_output/kernel", "output_dense/vars/0", (count, size, out)))
    found.append(("attention_output/bias", "output_dense/vars/1", (out,)))
    return [entry for entry in found if bias or "bias" not in entry[0]]


NORM = ("gamma", "beta")
STATISTICS = ("moving_mean", "moving_variance")
GAMMA_BETA = NORM + STATISTICS
IMAGES, SEQUENCES, CONTEXT = (4, 9, 8), (7, 6), (5, 10)  # images and sequences of channels first
S = {"return_sequence": True}


def cells(formula):
    return lambda w, x: formula(inside(w, ""), x)


def two_ways(formula):
    return lambda w, x: bidirectional(formula, w, x)


# npdl's layer, Keras's weights and formula, the shapes of the inputs.
LAYERS = {
    "dense": (F.dense(5), biased((6, 5)), dense, [(6,)]),
    "square dense": (F.dense(6), biased((6, 6)), dense, [SEQUENCES]),
    "dense, no bias": (F.dense(5, bias=False), biased((6, 5))[:1], dense, [(6,)]),
    "conv2d": (
        F.conv2d(6, (3, 2), stride=2),
        biased((3, 2, 4, 6)),
        lambda w, x: conv2d(w, x, stride=2),
        [IMAGES],
    ),
    "square conv2d": (F.conv2d(4, 4), biased((4, 4, 4, 4)), conv2d, [IMAGES]),
    "conv2d_transpose": (
        F.conv2d_transpose(5, 3, stride=2),
        biased((3, 3, 5, 4), 5),
        lambda w, x: conv2d_transpose(w, x, stride=2),
        [IMAGES],
    ),
    "conv1d": (F.conv1d(5, 3), biased((3, 4, 5)), conv1d, [(4, 9)]),
    "batch_norm of images": (
        F.batch_norm(epsilon=1e-3),
        vectors(4, *GAMMA_BETA),
        batch_normalization,
        [IMAGES],
    ),
    "batch_norm, no scale": (
        F.batch_norm(epsilon=1e-3, scale=False),
        vectors(6, "beta", *STATISTICS),
        batch_normalization,
        [(6,)],
    ),
    "layer_norm": (F.layer_norm(epsilon=1e-3), vectors(6, *NORM), layer_normalization, [SEQUENCES]),
    "group_norm": (
        F.group_norm(2, epsilon=1e-3),
        vectors(4, *NORM),
        lambda w, x: group_normalization(w, x, 2),
        [IMAGES],
    ),
    "rms_norm": (F.rms_norm(epsilon=1e-6), vectors(6, "scale"), rms_normalization, [SEQUENCES]),
    "embedding": (F.embedding(10, 6), [("embeddings", "vars/0", (10, 6))], embedding, ["ids"]),
    "rnn": (F.rnn(4, **S), cell("simple_rnn", 6, 4, 1), cells(simple_rnn), [SEQUENCES]),
    "lstm": (F.lstm(4, **S), cell("lstm", 6, 4, 4), cells(lstm), [SEQUENCES]),
    "square lstm": (F.lstm(6, **S), cell("lstm", 6, 6, 4), cells(lstm), [SEQUENCES]),
    "lstm, no bias": (F.lstm(4, **S), cell("lstm", 6, 4, 4, ()), cells(lstm), [SEQUENCES]),
    "gru": (F.gru(4, **S), cell("gru", 6, 4, 3, (2, 12)), cells(gru), [SEQUENCES]),
    "gru, no bias": (F.gru(4, **S), cell("gru", 6, 4, 3, ()), cells(gru), [SEQUENCES]),
    "gru, reset before": (
        F.gru(4, reset_after=False, **S),
        cell("gru", 6, 4, 3),
        cells(gru_reset_before),
        [SEQUENCES],
    ),
    "both directions of lstm": (
        F.bidirectional(F.lstm(4, **S)),
        both_ways("lstm", 6, 4, 4),
        two_ways(lstm),
        [SEQUENCES],
    ),
    "both directions of gru": (
        F.bidirectional(F.gru(6, **S)),
        both_ways("gru", 6, 6, 3, (2, 18)),
        two_ways(gru),
        [SEQUENCES],
    ),
    "attention": (F.multi_head_attention(2), heads(6, 6, 2, 3, 6), attention, [SEQUENCES]),
    "attention, no bias": (
        F.multi_head_attention(3, bias=False),
        heads(6, 6, 3, 2, 6, bias=False),
        attention,
        [SEQUENCES],
    ),
    "cross attention": (
        F.multi_head_attention(3, units=5, cross=True),
        heads(6, 10, 3, 2, 5),
        attention,
        [SEQUENCES, CONTEXT],
    ),
}


def flat(x):
    return x.reshape(len(x), -1)


def pooled(x):
    """Return the maximum of each block of 2×2 pixels."""
    rows, columns = x.shape[1] // 2, x.shape[2] // 2
    x = x[:, : 2 * rows, : 2 * columns].reshape(len(x), rows, 2, columns, 2, -1)
    return x.max((2, 4))


def relu(x):
    return np.maximum(x, 0)


def network(w, x):
    x = conv2d(inside(w, "conv2d/"), x, same=True)
    x = pooled(relu(batch_normalization(inside(w, "batch_normalization/"), x)))
    x = relu(conv2d(inside(w, "conv2d_1/"), x, same=True))
    x = batch_normalization(inside(w, "batch_normalization_1/"), flat(x))
    x = relu(dense(inside(w, "dense/"), x))
    return dense(inside(w, "dense_1/"), x)


def inception(w, x):
    x = np.concatenate(
        [conv2d(inside(w, "conv2d/"), x, same=True), conv2d(inside(w, "conv2d_1/"), x)], axis=-1
    )
    x = x + conv2d(inside(w, "conv2d_2/"), x, same=True)
    return dense(inside(w, "dense/"), flat(x))


def listener(w, x):
    x = lstm(inside(w, "lstm/"), relu(conv1d(inside(w, "conv1d/"), x)))
    return dense(inside(w, "dense/"), flat(x))


def tagger(w, ids):
    x = embedding(inside(w, "embedding/"), ids)
    for layer in ("bidirectional/", "bidirectional_1/"):
        x = bidirectional(lstm, {n.removeprefix(layer): a for n, a in w.items() if layer in n}, x)
    return dense(inside(w, "dense/"), x)


def transformer(pre_norm):
    def apply(w, ids):
        x = embedding(inside(w, "embedding/"), ids)
        for i in range(2):
            first, second = (number(2 * i), number(2 * i + 1))
            norms = [inside(w, f"layer_normalization{n}/") for n in (first, second)]
            norm = [functools.partial(layer_normalization, each, epsilon=1e-5) for each in norms]
            mix = inside(w, f"multi_head_attention{number(i)}/")
            hidden, out = (inside(w, f"dense{n}/") for n in (first, second))
            if pre_norm:
                x = x + attention(mix, norm[0](x))
                x = x + dense(out, relu(dense(hidden, norm[1](x))))
            else:
                x = norm[0](x + attention(mix, x))
                x = norm[1](x + dense(out, relu(dense(hidden, x))))
        return dense(inside(w, "dense_4/"), x)

    return apply


def number(i):
    return f"_{i}" if i else ""


def layers(**parts):
    """Return the weights of several layers, in the order of Keras."""
    return [
        (f"{layer}/{name}", f"layers/{layer}/{h5}", shape)
        for layer, entries in parts.items()
        for name, h5, shape in entries
    ]


def block(i):
    return {
        f"layer_normalization{number(2 * i)}": vectors(6, *NORM),
        f"multi_head_attention{number(i)}": heads(6, 6, 2, 3, 6),
        f"layer_normalization{number(2 * i + 1)}": vectors(6, *NORM),
        f"dense{number(2 * i)}": biased((6, 11)),
        f"dense{number(2 * i + 1)}": biased((11, 6)),
    }


BLOCKS = layers(
    embedding=[("embeddings", "vars/0", (10, 6))], **block(0), **block(1), dense_4=biased((6, 4))
)
BIDIRECTIONAL = F.bidirectional(F.lstm(3, **S))
MODELS = {
    "convolutional network": (
        F.serial(
            *(F.conv2d(6, 3, padding="same", bias=False), F.batch_norm(epsilon=1e-3), F.relu()),
            *(F.max_pool2d(2), F.serial(F.conv2d(6, 3, padding="same"), F.relu(), F.flatten())),
            *(F.batch_norm(epsilon=1e-3), F.freeze(F.dense(96)), F.relu(), F.dense(5)),
        ),
        layers(
            conv2d=biased((3, 3, 4, 6))[:1],
            batch_normalization=vectors(6, *GAMMA_BETA),
            conv2d_1=biased((3, 3, 6, 6)),
            batch_normalization_1=vectors(96, *GAMMA_BETA),
            dense=biased((96, 96)),
            dense_1=biased((96, 5)),
        ),
        network,
        [IMAGES],
    ),
    "branches": (
        F.graph(
            "x",
            {
                "a": (
                    F.parallel(
                        *(F.conv2d(4, 3, padding="same"), F.conv2d(2, 1)),
                        join="concatenate",
                        axis=1,
                    ),
                    "x",
                ),
                "b": (F.conv2d(6, 3, padding="same"), "a"),
                "sum": (F.add(), ("a", "b")),
                "flat": (F.flatten(), "sum"),
                "scores": (F.dense(5), "flat"),
            },
            "scores",
        ),
        layers(
            conv2d=biased((3, 3, 4, 4)),
            conv2d_1=biased((1, 1, 4, 2)),
            conv2d_2=biased((3, 3, 6, 6)),
            dense=biased((6 * 72, 5)),
        ),
        inception,
        [IMAGES],
    ),
    "branches of a graph": (
        F.graph(
            "x",
            {
                "c": (F.conv2d(4, 3, padding="same"), "x"),
                "d": (F.conv2d(2, 1), "x"),
                "a": (F.concatenate(axis=1), ("c", "d")),
                "b": (F.conv2d(6, 3, padding="same"), "a"),
                "sum": (F.add(), ("a", "b")),
                "flat": (F.flatten(), "sum"),
                "scores": (F.dense(5), "flat"),
            },
            "scores",
        ),
        layers(
            conv2d=biased((3, 3, 4, 4)),
            conv2d_1=biased((1, 1, 4, 2)),
            conv2d_2=biased((3, 3, 6, 6)),
            dense=biased((6 * 72, 5)),
        ),
        inception,
        [IMAGES],
    ),
    "convolution, then lstm": (
        F.serial(
            *(F.conv1d(6, 3), F.relu(), F.transpose((0, 2, 1)), F.lstm(4, **S)),
            *(F.flatten(), F.dense(5)),
        ),
        layers(conv1d=biased((3, 4, 6)), lstm=cell("lstm", 6, 4, 4), dense=biased((28, 5))),
        listener,
        [(4, 9)],
    ),
    "tagger": (
        F.serial(F.embedding(10, 6), BIDIRECTIONAL, BIDIRECTIONAL, F.dense(4)),
        layers(
            embedding=[("embeddings", "vars/0", (10, 6))],
            bidirectional=both_ways("lstm", 6, 3, 4),
            bidirectional_1=both_ways("lstm", 6, 3, 4),
            dense=biased((6, 4)),
        ),
        tagger,
        ["ids"],
    ),
    "transformer, norm first": (
        F.serial(
            F.embedding(10, 6), F.stack(*[F.transformer_encoder_block(2, 11)] * 2), F.dense(4)
        ),
        BLOCKS,
        transformer(pre_norm=True),
        ["ids"],
    ),
    "transformer": (
        F.serial(
            F.embedding(10, 6),
            F.stack(*[F.transformer_encoder_block(2, 11, pre_norm=False)] * 2),
            F.dense(4),
        ),
        BLOCKS,
        transformer(pre_norm=False),
        ["ids"],
    ),
}
CASES = LAYERS | MODELS


def example(shapes):
    """Return the shape of an example and a batch, for one input or several."""
    if shapes == ["ids"]:
        return (7,), random.generator(2).integers(0, 10, (BATCH, 7))
    shape = tuple(shapes) if len(shapes) > 1 else shapes[0]
    batches = tuple(normal(BATCH, *each, seed=i) for i, each in enumerate(shapes))
    return shape, batches if len(shapes) > 1 else batches[0]


def channels_last(array, shapes):
    """Return an array in the channel layout of Keras."""
    return np.moveaxis(array, 1, -1) if shapes[0] in (IMAGES, (4, 9)) else array


def drawn(entries):
    weights = {}
    for i, (name, _, shape) in enumerate(entries):
        array = 0.4 * normal(*shape, seed=i)
        weights[name] = np.abs(array) + np.float32(0.5) if "variance" in name else array
    return weights


def stored(entries, weights, way, directory):
    """Return the weights as one of the accepted arguments of `from_keras`."""
    if way == "h5":
        named = {h5: weights[name] for name, h5, _ in entries}
        return {name: named[name] for name in sorted(named)}
    prefixed = {name if "/" in name else f"layer/{name}": a for name, a in weights.items()}
    if way == "npz":
        np.savez(directory / "weights.npz", **prefixed)
    elif way == "safetensors":
        pytest.importorskip("safetensors.numpy").save_file(
            prefixed, directory / "weights.safetensors"
        )
    return prefixed if way == "mapping" else directory / f"weights.{way}"


WAYS = ["mapping", "npz", "h5", "safetensors"]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_outputs_agree_with_the_documented_formulas(case, way, tmp_path):
    model, entries, formula, shapes = case
    weights = drawn(entries)
    shape, x = example(shapes)
    like = model.init(0, shape)
    params = from_keras(stored(entries, weights, way, tmp_path), model, like)
    assert tree.paths(params) == tree.paths(like)
    inputs = [channels_last(each, shapes) for each in (x if isinstance(x, tuple) else (x,))]
    inputs = [a.astype(np.float64) if a.dtype == np.float32 else a for a in inputs]
    expected = formula({name: a.astype(np.float64) for name, a in weights.items()}, *inputs)
    found = model(params, x)
    assert found.dtype == np.float32
    found = channels_last(found, shapes) if found.ndim == expected.ndim > 2 else found
    assert found.shape == expected.shape
    bound = 1e-5 * max(1, np.abs(expected).max())
    np.testing.assert_allclose(found, expected, rtol=0, atol=bound)


# Without biases that are zero here, and with the norms in the order of execution.
OTHERS = {"lstm, no bias", "gru, no bias", "transformer"}
ORDERED = {name: case for name, case in CASES.items() if name not in OTHERS}


@pytest.mark.parametrize("case", ORDERED.values(), ids=ORDERED)
def test_written_weights_are_in_the_order_of_keras(case):
    model, entries, _, shapes = case
    weights = drawn(entries)
    params = from_keras(weights, model, model.init(0, example(shapes)[0]))
    arrays = to_keras(params, model)
    for array, (name, expected) in zip(arrays.values(), weights.items(), strict=True):
        np.testing.assert_array_equal(array, expected, name)
    again = from_keras(arrays, model, params)
    assert tree.all_close(again, params, rtol=0, atol=0)


def images(*layers):
    """Return a model for images of 2 channels and 3×3 pixels, its params and Keras weights."""
    model = F.serial(F.conv2d(2, 1), *layers)
    return model, model.init(0, (2, 3, 3)), drawn(layers_of_images(model))


def layers_of_images(model):
    return layers(
        conv2d=biased((1, 1, 2, 2)), dense=biased(model.init(0, (2, 3, 3))[-1]["weight"].shape)
    )


@F.layer
def shifted():
    """A user's layer with an unknown effect on the order of features."""
    return F.Layer(lambda rng, shape: (), lambda params, x: (x + 1, None), lambda p, c, g: ((), g))


@pytest.mark.parametrize("between", [shifted(), F.reshape((9, 2))], ids=repr)
def test_an_unknown_order_of_features_requires_flattened(between):
    model, like, weights = images(between, F.flatten(), F.dense(4))
    with pytest.raises(
        ValueError, match=r"order of the features .*flattened=\{'3': 64\}"
    ) as caught:
        from_keras(weights, model, like)
    assert "in 3 = dense(units=4)" in caught.value.__notes__
    kernel = weights["dense/kernel"]
    same = from_keras(weights, model, like, flattened={"3": 1})
    np.testing.assert_array_equal(same[3]["weight"], kernel)
    moved = from_keras(weights, model, like, flattened={"3": 2})
    for channel in range(2):
        for pixel in range(9):
            row = moved[3]["weight"][9 * channel + pixel]
            np.testing.assert_array_equal(row, kernel[2 * pixel + channel])


def test_an_elementwise_layer_of_ones_own_can_be_followed():
    @F.layer
    def shifted(by):
        def apply(params, x):
            return x + by, None

        return F.Layer(lambda rng, shape: (), apply, lambda p, c, g: ((), g), keeps_axes=True)

    model, like, weights = images(shifted(1), F.flatten(), F.dense(4))
    expected_model, expected_like, _ = images(F.tanh(), F.flatten(), F.dense(4))
    params = from_keras(weights, model, like)
    expected = from_keras(weights, expected_model, expected_like)
    np.testing.assert_array_equal(params[3]["weight"], expected[3]["weight"])


def test_images_without_a_convolution_keep_their_order():
    model = F.serial(F.flatten(), F.dense(4))
    weights = drawn(layers(dense=biased((18, 4))))
    params = from_keras(weights, model, model.init(0, (3, 3, 2)))
    np.testing.assert_array_equal(params[1]["weight"], weights["dense/kernel"])


def test_a_padding_that_may_pad_channels_requires_flattened():
    model, like, weights = images(F.pad(((0, 0), (0, 0))), F.flatten(), F.dense(4))
    with pytest.raises(ValueError, match=r"order of the features .*flattened=\{'3': 64\}"):
        from_keras(weights, model, like)
    from_keras(weights, model, like, flattened={"3": 2})
    model, like, weights = images(F.pad((0, 0)), F.flatten(), F.dense(4))
    assert from_keras(weights, model, like)


def test_global_pooling_and_transposed_channels_need_no_option():
    for between in (F.global_avg_pool(), F.serial(F.transpose((0, 2, 3, 1)), F.flatten())):
        model, like, weights = images(between, F.dense(4))
        params = from_keras(weights, model, like)
        np.testing.assert_array_equal(params[2]["weight"], weights["dense/kernel"])


def test_arrays_that_are_not_weights_are_ignored():
    model = F.serial(F.dense(4), F.dropout(0.5))
    weights = drawn(layers(dense=biased((3, 4))))
    others = {
        "dropout/seed_generator/seed_generator_state": np.zeros(2, np.uint32),
        "optimizer/vars/0": np.array(3),
        "optimizer/vars/1": np.zeros((3, 4), np.float32),
    }
    params = from_keras(weights | others, model, model.init(0, (3,)))
    np.testing.assert_array_equal(params[0]["weight"], weights["dense/kernel"])


DENSE = F.serial(F.dense(4), F.dense(4))
LIKE = DENSE.init(0, (4,))
PAIR = drawn(layers(dense=biased((4, 4)), dense_1=biased((4, 4))))
CNN = F.serial(F.conv2d(2, 1), F.flatten(), F.dense(4))
CNN_LIKE, CNN_WEIGHTS = CNN.init(0, (2, 3, 3)), drawn(layers_of_images(CNN))
BAD = {
    "missing": (
        lambda: from_keras({k: a for k, a in PAIR.items() if k != "dense/bias"}, DENSE, LIKE),
        r"missing: dense/bias, \[4\], for 0/bias of dense\(units=4\)",
    ),
    "heads of another size": (
        lambda: from_keras(
            drawn(layers(attention=heads(6, 6, 2, 4, 6))),
            F.multi_head_attention(2),
            F.multi_head_attention(2).init(0, SEQUENCES),
        ),
        r"of another shape: attention/query/kernel is \[6, 2, 4\], but weight of .* \[6, 2, 3\]",
    ),
    "sorted words": (
        lambda: from_keras(
            {
                "layers/hidden/vars/0": np.ones((4, 4), "f4"),
                "layers/out/vars/0": np.ones((4, 4), "f4"),
            },
            F.serial(*[F.dense(4, bias=False)] * 2),
            F.serial(*[F.dense(4, bias=False)] * 2).init(0, (4,)),
        ),
        r"names=\{'0': 'layers/hidden', '1': 'layers/out'\}",
    ),
    "numbered arrays of unlike layers": (
        lambda: from_keras(
            {
                "layers/b_2/vars/0": np.ones((4, 4), "f4"),
                "layers/b_1/vars/0": np.ones((4, 4), "f4"),
            },
            F.serial(F.embedding(4, 4), F.dense(4, bias=False)),
            F.serial(F.embedding(4, 4), F.dense(4, bias=False)).init(0, (2,)),
        ),
        r"names and shapes, layers/b_2, layers/b_1, for 0 = embed.*, 1 = dense.*nothing was loa",
    ),
    "names of no module": (
        lambda: from_keras(PAIR, DENSE, LIKE, names={"1": "dense_2"}),
        "has no module 'dense_2'",
    ),
    "flattened for no layer": (
        lambda: from_keras(PAIR, DENSE, LIKE, flattened={"2": 4}),
        "flattened: '2' is not the path of a layer with parameters; these are '0', '1'",
    ),
    "channels that do not divide": (
        lambda: from_keras(PAIR, DENSE, LIKE, flattened={"1": 3}),
        "3 channels do not divide the 4 features",
    ),
    "no channels": (
        lambda: from_keras(CNN_WEIGHTS, CNN, CNN_LIKE, flattened={"2": 0}),
        "Keras has channels last",
    ),
    "norms of rows of pixels": (
        lambda: from_keras(
            drawn(layers(conv2d=biased((1, 1, 2, 2)), norm=vectors(3, *NORM))),
            F.serial(F.conv2d(2, 1), F.layer_norm()),
            F.serial(F.conv2d(2, 1), F.layer_norm()).init(0, (2, 3, 3)),
        ),
        r"transpose\(\(0, 2, 3, 1\)\)",
    ),
    "a layer of one's own": (
        lambda: from_keras(
            {"w": np.ones(3, "f4")}, F.Layer(lambda r, s: 0, print, print), {"w": np.ones(3, "f4")}
        ),
        "has parameters without names in Keras",
    ),
}


@pytest.mark.parametrize(("call", "message"), BAD.values(), ids=BAD)
def test_bad_arguments_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
