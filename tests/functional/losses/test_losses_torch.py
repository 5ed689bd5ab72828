"""Agreement of the losses with PyTorch, values and gradients."""

import numpy as np
import pytest

import npdl.functional as F
from npdl import random

torch = pytest.importorskip("torch")
nn = torch.nn.functional

SHAPES = [(16, 2), (4, 7), (3, 5, 7), (6, 40), (2, 3, 4, 5), (7, 20_000)]

each_shape = pytest.mark.parametrize("shape", SHAPES, ids=str)
each_type = pytest.mark.parametrize(
    ("dtype", "tolerance"), [(np.float32, 1e-5), (np.float64, 1e-10)]
)


def compare(loss, there, p, t, weights, tolerance):
    """Compare with PyTorch's loss of each item, weighted and averaged."""
    value, g = loss(p, t, weights)
    p_there = torch.tensor(p, requires_grad=True)
    items = there(p_there, torch.tensor(t))
    if weights is None:
        expected = items.mean()
    else:
        w = torch.tensor(weights).reshape(weights.shape + (1,) * (items.ndim - weights.ndim))
        w = w.expand(items.shape)
        expected = (w * items).sum() / w.sum()
    expected.backward()
    assert value == pytest.approx(expected.item(), rel=tolerance)
    # A gradient of a mean is small: compare it in units of its largest element.
    expected_g = p_there.grad.numpy()
    np.testing.assert_allclose(g, expected_g, rtol=tolerance, atol=tolerance * abs(g).max())


def weights_for(generator, shape, dtype):
    yield None
    for axes in range(1, len(shape) + 1):
        yield generator.uniform(size=shape[:axes]).astype(dtype)


REAL = {
    "mean_squared_error": (
        F.mean_squared_error,
        lambda p, t: nn.mse_loss(p, t, reduction="none"),
    ),
    "mean_absolute_error": (
        F.mean_absolute_error,
        lambda p, t: nn.l1_loss(p, t, reduction="none"),
    ),
    "huber": (F.huber, lambda p, t: nn.huber_loss(p, t, reduction="none")),
    "huber, delta 0.3": (
        lambda p, t, w: F.huber(p, t, w, delta=0.3),
        lambda p, t: nn.huber_loss(p, t, reduction="none", delta=0.3),
    ),
}


@pytest.mark.parametrize("name", REAL)
@each_shape
@each_type
def test_losses_of_real_numbers_agree(name, shape, dtype, tolerance):
    generator = random.generator((1, len(shape)))
    p, t = (generator.normal(size=shape).astype(dtype) for _ in range(2))
    for weights in weights_for(generator, shape, dtype):
        compare(*REAL[name], p, t, weights, tolerance)


@each_shape
@each_type
@pytest.mark.parametrize("hard", [True, False], ids=["hard", "soft"])
def test_binary_cross_entropies_agree(shape, dtype, tolerance, hard):
    generator = random.generator((2, len(shape)))
    z, t = 6 * generator.normal(size=shape), generator.uniform(size=shape)
    t = (t.round() if hard else t).astype(dtype)
    p = generator.uniform(0.02, 0.98, size=shape).astype(dtype)
    for weights in weights_for(generator, shape, dtype):
        compare(
            F.sigmoid_cross_entropy,
            lambda z, t: nn.binary_cross_entropy_with_logits(z, t, reduction="none"),
            z.astype(dtype),
            t,
            weights,
            tolerance,
        )
        compare(
            F.binary_cross_entropy,
            lambda p, t: nn.binary_cross_entropy(p, t, reduction="none"),
            p,
            t,
            weights,
            tolerance,
        )


def classes_second(loss):
    """PyTorch has the classes on the second axis."""

    def second(x):
        return torch.movedim(x, -1, 1).contiguous()

    def there(z, t):
        return loss(second(z), second(t) if t.ndim == z.ndim else t)

    return there


@each_shape
@each_type
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("kind", ["ids", "one-hot", "soft"])
def test_softmax_cross_entropy_agrees(shape, dtype, tolerance, smoothing, kind):
    generator = random.generator((3, len(shape)))
    z = (3 * generator.normal(size=shape)).astype(dtype)
    t = generator.integers(0, shape[-1], shape[:-1])
    if kind == "one-hot":
        one_hot = np.zeros(shape, dtype)
        np.put_along_axis(one_hot, t[..., None], 1, axis=-1)
        t = one_hot
    elif kind == "soft":
        t = generator.dirichlet(np.ones(shape[-1]), shape[:-1]).astype(dtype)

    def there(z, t):
        return nn.cross_entropy(z, t, reduction="none", label_smoothing=smoothing)

    for weights in weights_for(generator, shape[:-1], dtype):
        compare(
            lambda z, t, w: F.softmax_cross_entropy(z, t, w, label_smoothing=smoothing),
            classes_second(there),
            z,
            t,
            weights,
            tolerance,
        )


@each_shape
@each_type
def test_categorical_cross_entropy_agrees(shape, dtype, tolerance):
    generator = random.generator((4, len(shape)))
    p = generator.dirichlet(np.full(shape[-1], 5.0), shape[:-1]).astype(dtype)
    ids = generator.integers(0, shape[-1], shape[:-1])
    soft = generator.dirichlet(np.ones(shape[-1]), shape[:-1]).astype(dtype)
    for weights in weights_for(generator, shape[:-1], dtype):
        compare(
            F.categorical_cross_entropy,
            classes_second(lambda p, t: nn.nll_loss(torch.log(p), t, reduction="none")),
            p,
            ids,
            weights,
            tolerance,
        )
        compare(
            F.categorical_cross_entropy,
            lambda p, t: -(t * torch.log(p)).sum(-1),
            p,
            soft,
            weights,
            tolerance,
        )


@each_shape
@each_type
def test_the_hellinger_distance_agrees_with_a_pytorch_formula(shape, dtype, tolerance):
    generator = random.generator((5, len(shape)))
    p, t = (generator.dirichlet(np.full(shape[-1], 5.0), shape[:-1]).astype(dtype) for _ in "pt")
    for weights in weights_for(generator, shape[:-1], dtype):
        compare(
            F.hellinger_distance,
            lambda p, t: torch.sqrt(0.5 * ((torch.sqrt(p) - torch.sqrt(t)) ** 2).sum(-1)),
            p,
            t,
            weights,
            tolerance,
        )
