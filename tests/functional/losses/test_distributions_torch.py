"""Losses of distributions, embeddings and regions against PyTorch, or the paper's equation."""

import numpy as np
import pytest

import npdl.functional as F
from npdl import random, tree

torch = pytest.importorskip("torch")
nn = torch.nn.functional


def there_gaussian(m, s, t):
    return nn.gaussian_nll_loss(m, t, torch.exp(s), reduction="none", eps=1e-300)


def there_focal(z, t):
    # Lin et al., equation 5
    p = torch.sigmoid(z)
    p_t, a = p * t + (1 - p) * (1 - t), 0.25 * t + 0.75 * (1 - t)
    return -a * (1 - p_t) ** 2 * torch.log(p_t)


def there_dice(p, t):
    # Drozdzal et al., equation 1
    p, t = p.flatten(1), t.flatten(1)
    return 1 - (2 * (p * t).sum(1) + 1) / (p.sum(1) + t.sum(1) + 1)


def there_info_nce(q, k):
    # Chen et al., equation 1, with the keys as the only negatives
    scores = nn.normalize(q) @ nn.normalize(k).T / 0.1
    return nn.cross_entropy(scores, torch.arange(len(q)), reduction="none")


def there_policy(z, a, advantages):
    # Williams, equation 11
    return -advantages * torch.distributions.Categorical(logits=z).log_prob(a)


def there_quantile(p, t):
    return torch.maximum(0.8 * (t - p), -0.2 * (t - p))


# Ours, PyTorch's loss of each item, the number of outputs, and the kinds of targets.
SAME = {
    "kl_divergence": (
        F.kl_divergence,
        lambda z, t: nn.kl_div(torch.log_softmax(z, -1), t, reduction="none").sum(-1),
        1,
        ("rows",),
    ),
    "gaussian_nll": (F.gaussian_nll, there_gaussian, 2, ("real",)),
    "poisson_nll": (
        F.poisson_nll, lambda z, t: nn.poisson_nll_loss(z, t, reduction="none"), 1, ("counts",)
    ),
    "quantile_loss": (
        lambda p, t: F.quantile_loss(p, t, level=0.8), there_quantile, 1, ("real",)
    ),
    "cosine_distance": (
        F.cosine_distance, lambda p, t: 1 - nn.cosine_similarity(p, t, dim=-1), 1, ("real",)
    ),
    "focal_loss": (F.focal_loss, there_focal, 1, ("binary",)),
    "dice_loss": (
        lambda z, t: F.dice_loss(z, t), there_dice, 1, ("binary",)
    ),
    "triplet_loss": (
        F.triplet_loss,
        lambda a, p, n: nn.triplet_margin_loss(a, p, n, eps=0.0, reduction="none"),
        3,
        (),
    ),
    "info_nce": (F.info_nce, there_info_nce, 2, ()),
    "policy_gradient_loss": (F.policy_gradient_loss, there_policy, 1, ("actions", "real rows")),
}  # fmt: skip


@pytest.mark.parametrize("name", SAME)
@pytest.mark.parametrize("shape", [(4, 3), (16, 40)], ids=str)
@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float32, 1e-5), (np.float64, 1e-10)])
def test_values_and_gradients_agree_with_pytorch(name, shape, dtype, tolerance):
    loss, there, count, kinds = SAME[name]
    generator = random.generator((1, *shape))
    outputs = [generator.normal(size=shape).astype(dtype) for _ in range(count)]
    if name == "dice_loss":
        outputs = [generator.uniform(size=shape).astype(dtype)]
    make = {
        "real": lambda: generator.normal(size=shape).astype(dtype),
        "counts": lambda: generator.poisson(2.0, shape).astype(dtype),
        "binary": lambda: generator.integers(0, 2, shape).astype(dtype),
        "rows": lambda: generator.dirichlet(np.ones(shape[1]), shape[0]).astype(dtype),
        "actions": lambda: generator.integers(0, shape[1], shape[0]),
        "real rows": lambda: generator.normal(size=shape[0]).astype(dtype),
    }
    targets = [make[kind]() for kind in kinds]
    value, g = loss(tuple(outputs) if count > 1 else outputs[0], *targets)
    theirs = [torch.tensor(output, requires_grad=True) for output in outputs]
    expected = there(*theirs, *map(torch.tensor, targets)).mean()
    expected.backward()
    assert value == pytest.approx(expected.item(), rel=tolerance, abs=tolerance)
    for leaf, tensor in zip(tree.leaves(g), theirs, strict=True):
        expected_g = tensor.grad.numpy()
        np.testing.assert_allclose(
            leaf, expected_g, rtol=tolerance, atol=tolerance * abs(leaf).max()
        )
