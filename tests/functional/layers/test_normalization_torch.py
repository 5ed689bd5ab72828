"""Normalization agrees with PyTorch: outputs, gradients and running statistics."""

import numpy as np
import pytest
from arrays import normal

import npdl.functional as F
from npdl import tree

torch = pytest.importorskip("torch")

TYPES = pytest.mark.parametrize(
    ("dtype", "tolerance"), [(np.float32, 1e-5), (np.float64, 1e-10)], ids=["float32", "float64"]
)


def shifted(*shape, **options):
    """Numbers whose mean is not 0 and whose deviation is not 1."""
    return 0.5 + 2 * normal(*shape, **options)


def noisy(layer, shape, dtype):
    params = layer.init(0, shape)
    moved = {
        name: array + shifted(*array.shape, seed=3, dtype=np.float32)
        if name in ("scale", "shift")
        else array
        for name, array in params.items()
    }
    return tree.astype(moved, dtype)


def given(module, params):
    """Set PyTorch's parameters to ours."""
    for theirs, ours in (("weight", "scale"), ("bias", "shift")):
        if ours in params:
            getattr(module, theirs).data = torch.tensor(params[ours])
    return module


def assert_same(layer, params, module, x, tolerance, train):
    """Compare output and gradients; return our cache."""
    y, cache = layer.apply(params, x, train=train)
    g = shifted(*y.shape, seed=4, dtype=x.dtype)
    grads, dx = layer.backward(params, cache, g)
    their_x = torch.tensor(x, requires_grad=True)
    their_y = module.train(train)(their_x)
    their_y.backward(torch.tensor(g))
    pairs = {"y": (y, their_y.detach()), "dx": (dx, their_x.grad)}
    for ours, theirs in (("scale", "weight"), ("shift", "bias")):
        if ours in params:
            pairs[ours] = (grads[ours], getattr(module, theirs).grad)
    for name, (ours, theirs) in pairs.items():
        theirs = theirs.numpy()
        scale = max(1.0, np.abs(theirs).max())
        np.testing.assert_allclose(ours, theirs, atol=tolerance * scale, err_msg=name)
    return cache


BATCH_NORMS = {2: "BatchNorm1d", 3: "BatchNorm1d", 4: "BatchNorm2d", 5: "BatchNorm3d"}


@TYPES
@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("shape", [(7, 3), (5, 3, 4), (5, 3, 4, 2), (5, 3, 4, 2, 6)])
def test_batch_norm_over_three_training_steps_and_evaluation(shape, affine, dtype, tolerance):
    layer = F.batch_norm(momentum=0.3, epsilon=1e-3, scale=affine, shift=affine)
    params = noisy(layer, shape[1:], dtype)
    module = getattr(torch.nn, BATCH_NORMS[len(shape)])(3, eps=1e-3, momentum=0.3, affine=affine)
    module = given(module.to(torch.tensor(np.zeros(0, dtype)).dtype), params)
    for seed in range(3):
        module.zero_grad()
        x = shifted(*shape, seed=seed, dtype=dtype)
        cache = assert_same(layer, params, module, x, tolerance, train=True)
        params = layer.update_stats(params, cache)
        np.testing.assert_allclose(params["mean"], module.running_mean, atol=tolerance)
        np.testing.assert_allclose(params["variance"], module.running_var, atol=tolerance)
        assert params["count"] == module.num_batches_tracked
    module.zero_grad()
    assert_same(layer, params, module, shifted(*shape, seed=9, dtype=dtype), tolerance, train=False)


@TYPES
def test_batch_norm_over_the_last_axis(dtype, tolerance):
    layer = F.batch_norm(axis=-1)
    params = noisy(layer, (4, 3), dtype)
    module = given(torch.nn.BatchNorm1d(3).to(torch.tensor(np.zeros(0, dtype)).dtype), params)

    class Moved(torch.nn.Module):
        weight, bias = module.weight, module.bias

        def train(self, mode):
            module.train(mode)
            return self

        def forward(self, x):
            return module(x.movedim(-1, 1)).movedim(1, -1)

    assert_same(
        layer,
        params,
        Moved(),
        shifted(5, 4, 3, dtype=dtype),
        tolerance,
        train=True,
    )


@TYPES
@pytest.mark.parametrize("shift", [True, False])
@pytest.mark.parametrize(
    ("shape", "count"), [((5, 3), 1), ((5, 4, 3), 1), ((5, 4, 3), 2), ((5, 2, 4, 3), 3)]
)
def test_layer_norm(shape, count, shift, dtype, tolerance):
    layer = F.layer_norm(axes=tuple(range(-count, 0)), epsilon=1e-3, shift=shift)
    params = noisy(layer, shape[1:], dtype)
    module = given(torch.nn.LayerNorm(shape[-count:], eps=1e-3, bias=shift), params)
    assert_same(layer, params, module, shifted(*shape, dtype=dtype), tolerance, train=True)


@TYPES
@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("groups", [1, 2, 6])
@pytest.mark.parametrize("shape", [(5, 6, 3), (5, 6, 3, 4), (5, 6, 2, 3, 4)])
def test_group_norm(shape, groups, affine, dtype, tolerance):
    layer = F.group_norm(groups, epsilon=1e-3, scale=affine, shift=affine)
    params = noisy(layer, shape[1:], dtype)
    module = given(torch.nn.GroupNorm(groups, 6, eps=1e-3, affine=affine), params)
    assert_same(layer, params, module, shifted(*shape, dtype=dtype), tolerance, train=True)


@TYPES
def test_as_many_groups_as_channels_are_an_instance_norm(dtype, tolerance):
    layer = F.group_norm(6)
    params = noisy(layer, (6, 3, 4), dtype)
    module = given(torch.nn.InstanceNorm2d(6, affine=True), params)
    assert_same(
        layer,
        params,
        module,
        shifted(5, 6, 3, 4, dtype=dtype),
        tolerance,
        train=True,
    )


@TYPES
@pytest.mark.parametrize("scale", [True, False])
@pytest.mark.parametrize("count", [1, 2])
def test_rms_norm(count, scale, dtype, tolerance):
    layer = F.rms_norm(axes=tuple(range(-count, 0)), epsilon=1e-3, scale=scale)
    params = noisy(layer, (4, 3), dtype)
    module = torch.nn.RMSNorm((4, 3)[-count:], eps=1e-3, elementwise_affine=scale)
    x = shifted(5, 4, 3, dtype=dtype)
    assert_same(layer, params, given(module, params), x, tolerance, train=True)
