"""Derivatives along directions agree with `torch.func`, to 1e-8 in float64."""

import numpy as np
import pytest
from arrays import noisy_params, normal64

import npdl.functional as F
from npdl import tree

torch = pytest.importorskip("torch")
nn = torch.nn.functional
# The forward mode of PyTorch compiles its rules with a deprecated function.
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script:DeprecationWarning")


def dense(p, x):
    return x @ p["weight"] + p["bias"]


def conv(stride, padding, dilation, groups):
    return lambda p, x: nn.conv2d(x, p["weight"], p["bias"], stride, padding, dilation, groups)


def conv1d(p, x):
    return nn.conv1d(x, p["weight"], p["bias"], padding=1)


def transposed(p, x):
    return nn.conv_transpose2d(x, p["weight"], p["bias"], 2, 1, 1)


def attention(heads, causal):
    def f(p, x):
        batch, time, size = x.shape
        q, k, v = (
            part.reshape(batch, time, heads, -1).transpose(1, 2)
            for part in (x @ p["weight"] + p["bias"]).split(size, -1)
        )
        scores = q @ k.mT / (size // heads) ** 0.5
        if causal:
            scores = scores + torch.full((time, time), -torch.inf).triu(1)
        mixed = (scores.softmax(-1) @ v).transpose(1, 2).reshape(batch, time, size)
        return mixed @ p["output_weight"] + p["output_bias"]

    return f


def rnn(p, x):
    h = x.new_zeros(len(x), p["recurrent_weight"].shape[0])
    for t in range(x.shape[1]):
        h = torch.tanh(x[:, t] @ p["weight"] + h @ p["recurrent_weight"] + p["bias"])
    return h


def lstm(p, x):
    units = p["recurrent_weight"].shape[0]
    h = c = x.new_zeros(len(x), units)
    for t in range(x.shape[1]):
        a = x[:, t] @ p["weight"] + h @ p["recurrent_weight"] + p["bias"]
        g, i, f, o = a.split(units, -1)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        h = o.sigmoid() * c.tanh()
    return h


def gru(p, x):
    units = p["recurrent_weight"].shape[0]
    h = x.new_zeros(len(x), units)
    for t in range(x.shape[1]):
        a = (x[:, t] @ p["weight"] + p["bias"]).split(units, -1)
        b = (h @ p["recurrent_weight"] + p["recurrent_bias"]).split(units, -1)
        r, z = (a[0] + b[0]).sigmoid(), (a[1] + b[1]).sigmoid()
        h = (1 - z) * (a[2] + r * b[2]).tanh() + z * h
    return h


def layer_norm(p, x):
    return nn.layer_norm(x, x.shape[-1:], p["scale"], p["shift"])


def rms_norm(p, x):
    return p["scale"] * x / (x.square().mean(-1, keepdim=True) + 1e-5).sqrt()


def group_norm(p, x):
    return nn.group_norm(x, 2, p["scale"], p["shift"])


def batch_norm(p, x):
    mean, variance = x.mean((0, 2), keepdim=True), x.var((0, 2), unbiased=False, keepdim=True)
    return p["scale"][:, None] * (x - mean) / (variance + 1e-5).sqrt() + p["shift"][:, None]


def nothing(f):
    return lambda p, x: f(x)


# Name: our layer, the shape of an example, and PyTorch's function of parameters and input.
LAYERS = {
    "dense": (F.dense(5), (4,), dense),
    "conv2d": (F.conv2d(4, 3), (3, 6, 5), conv(1, 0, 1, 1)),
    "conv2d, all": (
        F.conv2d(6, 3, stride=2, padding=2, dilation=2, groups=2),
        (4, 9, 8),
        conv(2, 2, 2, 2),
    ),
    "conv1d": (F.conv1d(4, 3, padding=1), (3, 7), conv1d),
    "conv2d_transpose": (
        F.conv2d_transpose(3, 3, stride=2, padding=1, output_padding=1),
        (2, 4, 5),
        transposed,
    ),
    "max_pool2d": (F.max_pool2d(2), (3, 4, 6), nothing(lambda x: nn.max_pool2d(x, 2))),
    "avg_pool2d": (
        F.avg_pool2d(3, stride=2),
        (3, 7, 5),
        nothing(lambda x: nn.avg_pool2d(x, 3, 2)),
    ),
    "upsample2d": (F.upsample2d(3), (3, 4, 5), nothing(lambda x: nn.interpolate(x, None, 3))),
    "upsample2d, bilinear": (
        F.upsample2d((2, 3), "bilinear"),
        (3, 4, 5),
        nothing(lambda x: nn.interpolate(x, None, (2, 3), "bilinear")),
    ),
    "pixel_shuffle": (F.pixel_shuffle(2), (8, 4, 5), nothing(lambda x: nn.pixel_shuffle(x, 2))),
    "global_max_pool": (F.global_max_pool(), (3, 4, 5), nothing(lambda x: x.amax((2, 3)))),
    "global_avg_pool": (F.global_avg_pool(), (3, 4, 5), nothing(lambda x: x.mean((2, 3)))),
    "layer_norm": (F.layer_norm(), (4, 5), layer_norm),
    "rms_norm": (F.rms_norm(scale=True), (5,), rms_norm),
    "group_norm": (F.group_norm(2), (4, 3, 5), group_norm),
    "batch_norm": (F.batch_norm(), (3, 4), batch_norm),
    "attention": (F.multi_head_attention(2), (5, 6), attention(2, False)),
    "causal attention": (F.multi_head_attention(3, causal=True), (5, 6), attention(3, True)),
    "rnn": (F.rnn(4), (5, 3), rnn),
    "lstm": (F.lstm(4), (5, 3), lstm),
    "gru": (F.gru(4), (5, 3), gru),
    "softmax": (F.softmax(), (2, 5), nothing(lambda x: x.softmax(-1))),
    "log_softmax": (F.log_softmax(), (2, 5), nothing(lambda x: x.log_softmax(-1))),
    "sigmoid": (F.sigmoid(), (7,), nothing(torch.sigmoid)),
    "tanh": (F.tanh(), (7,), nothing(torch.tanh)),
    "softsign": (F.softsign(), (7,), nothing(nn.softsign)),
    "hard_tanh": (F.hard_tanh(), (7,), nothing(nn.hardtanh)),
    "relu": (F.relu(), (7,), nothing(torch.relu)),
    "leaky_relu": (F.leaky_relu(0.3), (7,), nothing(lambda x: nn.leaky_relu(x, 0.3))),
    "elu": (F.elu(1.7), (7,), nothing(lambda x: nn.elu(x, 1.7))),
    "selu": (F.selu(), (7,), nothing(nn.selu)),
    "softplus": (F.softplus(), (7,), nothing(lambda x: nn.softplus(x, threshold=50))),
    "silu": (F.silu(), (7,), nothing(nn.silu)),
    "gelu": (F.gelu(), (7,), nothing(nn.gelu)),
    "gelu, approximate": (
        F.gelu(approximate=True),
        (7,),
        nothing(lambda x: nn.gelu(x, approximate="tanh")),
    ),
    "mish": (F.mish(), (7,), nothing(nn.mish)),
    "hard_silu": (F.hard_silu(), (7,), nothing(lambda x: x * nn.relu6(x + 3) / 6)),
}
each_layer = pytest.mark.parametrize("name", LAYERS)


def tensors(values):
    return tree.map(torch.tensor, values)


def setting(name):
    layer, shape, theirs = LAYERS[name]
    params, x = noisy_params(layer, shape), normal64(4, *shape, seed=7)
    directions = tree.map(lambda leaf: normal64(*leaf.shape, seed=8), params), normal64(*x.shape)
    if name == "batch_norm":  # the running statistics have no part in training
        for each in ("mean", "variance", "count"):
            directions[0][each] = np.zeros_like(params[each])
    return layer, theirs, params, x, directions


@each_layer
def test_pushforwards_agree(name):
    layer, theirs, params, x, directions = setting(name)
    train = name == "batch_norm"
    y, dy = F.jvp(layer)(params, x, *directions, train=train)
    expected = torch.func.jvp(theirs, tensors((params, x)), tensors(directions))
    for ours, their in zip((y, dy), expected, strict=True):
        np.testing.assert_allclose(ours, their.numpy(), rtol=1e-8, atol=1e-8)


@each_layer
def test_hessian_products_agree(name):
    layer, theirs, params, x, directions = setting(name)
    train = name == "batch_norm"
    first = noisy_params(F.dense(x.shape[-1], bias=False), x.shape[-1:])
    v = normal64(*first["weight"].shape, seed=9)
    model, both = F.serial(F.dense(x.shape[-1], bias=False), layer), (first, params)
    directions = {"weight": v}, directions[0]
    targets = normal64(*model(both, x, train=train).shape, seed=10)
    found = F.hvp(model, F.mean_squared_error)(both, directions, x, targets, train=train)

    def loss(p):
        y = theirs(p[1], torch.tensor(x) @ p[0]["weight"])
        return (y - torch.tensor(targets)).square().mean()

    _, expected = torch.func.jvp(torch.func.grad(loss), (tensors(both),), (tensors(directions),))
    for path, ours in tree.items(found):
        their = dict(tree.items(expected))[path].numpy()
        np.testing.assert_allclose(ours, their, rtol=1e-8, atol=1e-8, err_msg=path)


def cross_entropy(y, t):
    return nn.cross_entropy(y, torch.tensor(t))


def mean_squared_error(y, t):
    return (y - torch.tensor(t)).square().mean()


def binary(y, t):
    return nn.binary_cross_entropy_with_logits(y, torch.tensor(t))


LOSSES = {
    "softmax_cross_entropy": (F.softmax_cross_entropy, cross_entropy, np.arange(4) % 3),
    "mean_squared_error": (F.mean_squared_error, mean_squared_error, normal64(4, 3, seed=3)),
    "sigmoid_cross_entropy": (F.sigmoid_cross_entropy, binary, np.eye(4)[:, :3]),
}


@pytest.mark.parametrize("name", LOSSES)
def test_products_of_a_network_agree(name):
    loss, theirs, targets = LOSSES[name]
    model = F.serial(F.dense(5), F.gelu(), F.layer_norm(), F.dense(3))
    params, x = noisy_params(model, (4,)), normal64(4, 4, seed=1)
    v = tree.map(lambda leaf: normal64(*leaf.shape, seed=2), params)

    def outputs(p):
        hidden = nn.gelu(dense(p[0], torch.tensor(x)))
        return dense(p[3], layer_norm(p[2], hidden))

    def of_params(p):
        return theirs(outputs(p), targets)

    theirs_v = tensors(v)
    _, expected = torch.func.jvp(torch.func.grad(of_params), (tensors(params),), (theirs_v,))
    found = F.hvp(model, loss)(params, v, x, targets)
    y, dy = torch.func.jvp(outputs, (tensors(params),), (theirs_v,))
    _, of_loss = torch.func.jvp(torch.func.grad(lambda y: theirs(y, targets)), (y,), (dy,))
    (gauss_newton,) = torch.func.vjp(outputs, tensors(params))[1](of_loss)
    ours = F.gauss_newton_vp(model, loss)(params, v, x, targets)
    for one, other in ((found, expected), (ours, gauss_newton)):
        other = dict(tree.items(other))
        for path, leaf in tree.items(one):
            np.testing.assert_allclose(leaf, other[path].numpy(), rtol=1e-8, atol=1e-8)
