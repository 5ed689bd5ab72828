"""Running statistics computed again, as the means over batches."""

import numpy as np
import pytest
from arrays import normal, same_bits

import npdl.functional as F
from npdl import tree

MODEL = F.serial(
    F.conv2d(4, 3),
    F.batch_norm(momentum=0.3),
    F.remat(F.residual(F.relu(), F.batch_norm(scale=False))),
    F.freeze(F.batch_norm()),
    F.global_avg_pool(),
    F.dropout(0.2),
    F.dense(3),
)


def setting():
    params = tree.map(np.array, MODEL.init(0, (2, 6, 5)))
    params[3]["count"][...] = 1
    return params, [normal(5, 2, 6, 5, seed=i) + np.float32(i) for i in range(4)]


def test_only_statistics_differ_and_nothing_is_written():
    params, batches = setting()
    before = tree.map(np.array, params)
    fresh = F.reestimate_statistics(MODEL, params, batches, rng=1)
    assert same_bits(params, before)
    assert same_bits(fresh, F.reestimate_statistics(MODEL, params, iter(batches), rng=1))
    changed = [
        path
        for (path, a), b in zip(tree.items(params), tree.leaves(fresh), strict=True)
        if not same_bits(a, b)
    ]
    names = ("count", "mean", "variance")
    assert changed == [f"1/{name}" for name in names] + [f"2/1/{name}" for name in names]
    assert fresh[1]["count"] == 4


def test_the_statistics_are_means_over_the_batches():
    params, batches = setting()
    fresh = F.reestimate_statistics(MODEL, params, batches, rng=1)
    hidden = [F.conv2d(4, 3)(params[0], x) for x in batches]
    mean = np.mean([y.mean((0, 2, 3)) for y in hidden], axis=0)
    variance = np.mean([y.var((0, 2, 3), ddof=1) for y in hidden], axis=0)
    np.testing.assert_allclose(fresh[1]["mean"], mean, rtol=1e-5)
    np.testing.assert_allclose(fresh[1]["variance"], variance, rtol=1e-5)


def test_no_batch_and_no_layer_are_refused():
    params, _ = setting()
    with pytest.raises(ValueError, match="at least one batch"):
        F.reestimate_statistics(MODEL, params, [])
    with pytest.raises(TypeError, match="reestimate_statistics: argument 0 is 3"):
        F.reestimate_statistics(3, params, [])


def test_the_statistics_agree_with_pytorch():
    torch = pytest.importorskip("torch")
    model = F.serial(F.dense(4), F.batch_norm(momentum=0.2), F.tanh(), F.dense(3), F.batch_norm())
    params = model.init(0, (5,))
    theirs = torch.nn.Sequential(
        torch.nn.Linear(5, 4), torch.nn.BatchNorm1d(4, momentum=0.2), torch.nn.Tanh(),
        torch.nn.Linear(4, 3), torch.nn.BatchNorm1d(3),
    )  # fmt: skip
    with torch.no_grad():
        for i in (0, 3):
            theirs[i].weight.copy_(torch.tensor(params[i]["weight"].T))
            theirs[i].bias.copy_(torch.tensor(params[i]["bias"]))
    batches = [normal(6, 5, seed=i) for i in range(5)]
    torch.optim.swa_utils.update_bn([torch.tensor(x) for x in batches], theirs)
    fresh = F.reestimate_statistics(model, params, batches)
    for i in (1, 4):
        np.testing.assert_allclose(fresh[i]["mean"], theirs[i].running_mean, atol=1e-6)
        np.testing.assert_allclose(fresh[i]["variance"], theirs[i].running_var, rtol=1e-5)
