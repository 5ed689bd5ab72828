"""Step for step the same as PyTorch, over several steps, arrays and changing gradients."""

import numpy as np
import pytest

import npdl.functional as F
from npdl import random, tree

torch = pytest.importorskip("torch")

STEPS = 12
TOLERANCE = {np.float32: 1e-5, np.float64: 1e-10}


@pytest.fixture(autouse=True)
def double_scalars():
    """Let PyTorch keep its scalar states, such as NAdam's product, in float64."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def decay(rate, *parts):
    """The weight decay that is PyTorch's argument `weight_decay`: part of the gradient."""
    return F.chain(F.add_decayed_weights(rate), *parts)


def rate(value):
    return F.scale_by_learning_rate(value)


O = torch.optim  # noqa: E741

SAME = {
    "SGD": (F.sgd(0.1), lambda p: O.SGD(p, 0.1)),
    "SGD, decay": (decay(0.2, F.sgd(0.1)), lambda p: O.SGD(p, 0.1, weight_decay=0.2)),
    "momentum": (F.momentum(0.1, decay=0.8), lambda p: O.SGD(p, 0.1, momentum=0.8)),
    "momentum, decay": (
        decay(0.2, F.momentum(0.1)),
        lambda p: O.SGD(p, 0.1, momentum=0.9, weight_decay=0.2),
    ),
    "Nesterov": (
        F.nesterov_momentum(0.1, decay=0.8),
        lambda p: O.SGD(p, 0.1, momentum=0.8, nesterov=True),
    ),
    "Nesterov, decay": (
        decay(0.2, F.nesterov_momentum(0.1)),
        lambda p: O.SGD(p, 0.1, momentum=0.9, nesterov=True, weight_decay=0.2),
    ),
    "SGD, Nesterov": (
        F.sgd(0.1, momentum=0.8, nesterov=True),
        lambda p: O.SGD(p, 0.1, momentum=0.8, nesterov=True),
    ),
    "AMSGrad, defaults": (F.amsgrad(), lambda p: O.Adam(p, amsgrad=True)),
    "AMSGrad": (
        decay(0.2, F.amsgrad(0.1, beta1=0.8, beta2=0.9, epsilon=1e-3)),
        lambda p: O.Adam(p, 0.1, (0.8, 0.9), eps=1e-3, weight_decay=0.2, amsgrad=True),
    ),
    "AMSGrad, decoupled decay": (
        F.chain(F.scale_by_amsgrad(), F.add_decayed_weights(0.2), rate(0.1)),
        lambda p: O.AdamW(p, 0.1, weight_decay=0.2, amsgrad=True),
    ),
    "Adagrad, defaults": (F.adagrad(), lambda p: O.Adagrad(p)),
    "Adagrad": (
        decay(0.2, F.adagrad(0.1, epsilon=1e-3, initial_squares=0.3)),
        lambda p: O.Adagrad(p, 0.1, eps=1e-3, initial_accumulator_value=0.3, weight_decay=0.2),
    ),
    "RMSprop, defaults": (F.rmsprop(), lambda p: O.RMSprop(p)),
    "RMSprop": (
        decay(0.2, F.rmsprop(0.1, decay=0.8, epsilon=1e-3)),
        lambda p: O.RMSprop(p, 0.1, alpha=0.8, eps=1e-3, weight_decay=0.2),
    ),
    "RMSprop, momentum": (
        F.chain(F.scale_by_rmsprop(decay=0.8), F.trace(0.7), rate(0.1)),
        lambda p: O.RMSprop(p, 0.1, alpha=0.8, momentum=0.7),
    ),
    "Adadelta, defaults": (F.adadelta(), lambda p: O.Adadelta(p)),
    "Adadelta": (
        decay(0.2, F.adadelta(0.5, decay=0.8, epsilon=1e-3)),
        lambda p: O.Adadelta(p, 0.5, rho=0.8, eps=1e-3, weight_decay=0.2),
    ),
    "Adam, defaults": (F.adam(), lambda p: O.Adam(p)),
    "Adam": (
        decay(0.2, F.adam(0.1, beta1=0.8, beta2=0.9, epsilon=1e-3)),
        lambda p: O.Adam(p, 0.1, (0.8, 0.9), eps=1e-3, weight_decay=0.2),
    ),
    "Adamax, defaults": (F.adamax(), lambda p: O.Adamax(p)),
    "Adamax": (
        decay(0.2, F.adamax(0.1, beta1=0.8, beta2=0.9, epsilon=1e-3)),
        lambda p: O.Adamax(p, 0.1, (0.8, 0.9), eps=1e-3, weight_decay=0.2),
    ),
    "AdamW, defaults": (F.adamw(), lambda p: O.AdamW(p)),
    "AdamW": (
        F.adamw(0.1, beta1=0.8, beta2=0.9, epsilon=1e-3, weight_decay=0.3),
        lambda p: O.AdamW(p, 0.1, (0.8, 0.9), eps=1e-3, weight_decay=0.3),
    ),
    "AdamW, some decay": (
        F.adamw(0.1, weight_decay=0.3, mask="*weight"),
        lambda p: O.AdamW(
            [{"params": p[:2], "weight_decay": 0.0}, {"params": p[2:], "weight_decay": 0.3}], 0.1
        ),
    ),
    "groups": (
        F.by_path({"*scale": F.sgd(0.2), "*": F.sgd(0.1)}),
        lambda p: O.SGD([{"params": p[1:2], "lr": 0.2}, {"params": [p[0], *p[2:]]}], 0.1),
    ),
    "NAdam, defaults": (F.nadam(), lambda p: O.NAdam(p)),
    "NAdam": (
        decay(0.2, F.nadam(0.1, beta1=0.8, beta2=0.9, epsilon=1e-3, momentum_decay=0.1)),
        lambda p: O.NAdam(
            p, 0.1, (0.8, 0.9), eps=1e-3, weight_decay=0.2, momentum_decay=0.1
        ),
    ),
    "NAdam, decoupled decay": (
        F.chain(F.scale_by_nadam(), F.add_decayed_weights(0.2), rate(0.1)),
        lambda p: O.NAdam(p, 0.1, weight_decay=0.2, decoupled_weight_decay=True),
    ),
}  # fmt: skip


def draw(key, dtype):
    generator = random.generator(key)
    shapes = [(3,), (), (2, 3), (3, 4, 2)]
    leaves = [np.asarray(generator.normal(size=shape), dtype) for shape in shapes]
    return tree.unflatten(({"bias": 0, "scale": 0, "weight": 0}, {"weight": 0}), leaves)


def tensors(value):
    return [torch.tensor(leaf) for leaf in tree.leaves(value)]


def assert_close(ours, theirs, dtype):
    for leaf, tensor in zip(tree.leaves(ours), theirs, strict=True):
        expected = tensor.detach().numpy()
        assert leaf.dtype == expected.dtype == dtype
        tolerance = TOLERANCE[dtype]
        np.testing.assert_allclose(leaf, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("optimizer", "make"), SAME.values(), ids=SAME)
def test_each_update_agrees_with_pytorch(optimizer, make, dtype):
    params = draw((0,), dtype)
    state = optimizer.init(params)
    theirs = tensors(params)
    their_optimizer = make(theirs)
    for step in range(STEPS):
        grads = draw((1, step), dtype)
        if step % 4 == 3:
            grads = tree.map(np.zeros_like, grads)
        for tensor, g in zip(theirs, tensors(grads), strict=True):
            tensor.grad = g
        their_optimizer.step()
        updates, state = optimizer.update(grads, state, params)
        params = F.apply_updates(params, updates)
        assert_close(params, theirs, dtype)


@pytest.mark.skipif(not hasattr(O, "Muon"), reason="this PyTorch has no Muon")
@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("shape", [(5, 5), (3, 8), (8, 3)], ids=str)
def test_muon_agrees_with_the_bfloat16_numbers_of_pytorch(shape, nesterov):
    generator = random.generator(shape)
    params = generator.normal(size=shape)
    optimizer = F.muon(0.1, decay=0.8, nesterov=nesterov, weight_decay=0.3)
    state, theirs = optimizer.init(params), torch.tensor(params)
    their_optimizer = O.Muon(
        [theirs], 0.1, 0.3, 0.8, nesterov=nesterov, adjust_lr_fn="match_rms_adamw"
    )
    for _ in range(STEPS):
        g = generator.normal(size=shape)
        theirs.grad = torch.tensor(g)
        their_optimizer.step()
        updates, state = optimizer.update(g, state, params)
        params = F.apply_updates(params, updates)
        # Each update is about 0.06; bfloat16 has 3 digits.
        np.testing.assert_allclose(params, theirs.numpy(), atol=0.02)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_parameter_without_a_gradient_is_skipped_as_in_pytorch(dtype):
    optimizer, params = F.adamw(0.1), draw((0,), dtype)
    state, theirs = optimizer.init(params), tensors(params)
    their_optimizer = O.AdamW(theirs, 0.1)
    for step in range(STEPS):
        first, second = draw((1, step), dtype)
        for tensor, g in zip(theirs, tensors((first, second)), strict=True):
            tensor.grad = g
        theirs[3].grad = None
        their_optimizer.step()
        updates, state = optimizer.update((first, None), state, params)
        params = F.apply_updates(params, updates)
        assert_close(params, theirs, dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("limit", [0.5, 4.0, 1e3])
def test_clipping_agrees_with_pytorch(limit, dtype):
    grads = draw((1,), dtype)
    by_value, theirs = F.clip_by_value(limit).update(grads, ()), tensors(grads)
    for tensor in theirs:
        tensor.grad = tensor.clone()
    torch.nn.utils.clip_grad_value_(theirs, limit)
    assert_close(by_value[0], [tensor.grad for tensor in theirs], dtype)
    by_norm, theirs = F.clip_by_global_norm(limit).update(grads, ()), tensors(grads)
    for tensor in theirs:
        tensor.grad = tensor.clone()
    norm = float(torch.nn.utils.clip_grad_norm_(theirs, limit))
    # PyTorch divides by the norm plus 1e-6.
    factor = (norm + 1e-6) / norm if norm > limit else 1.0
    assert_close(by_norm[0], [tensor.grad * factor for tensor in theirs], dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_averaged_parameters_agree_with_pytorch(dtype):
    optimizer, params = F.chain(F.adam(0.1), F.average_params(0.9)), draw((0,), dtype)
    state, theirs = optimizer.init(params), tensors(params)
    module = torch.nn.ParameterList(theirs)
    their_optimizer = O.Adam(module.parameters(), 0.1)
    average = torch.optim.swa_utils.AveragedModel(
        module, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.9)
    )
    for step in range(STEPS):
        grads = draw((1, step), dtype)
        for parameter, g in zip(module, tensors(grads), strict=True):
            parameter.grad = g
        their_optimizer.step()
        average.update_parameters(module)
        updates, state = optimizer.update(grads, state, params)
        params = F.apply_updates(params, updates)
        assert_close(F.averaged(state), list(average.module), dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_schedule_drives_the_optimizer_as_in_pytorch(dtype):
    optimizer, params = F.adam(F.cosine_decay(0.1, STEPS)), draw((0,), dtype)
    state, theirs = optimizer.init(params), tensors(params)
    their_optimizer = O.Adam(theirs, 0.1)
    scheduler = O.lr_scheduler.CosineAnnealingLR(their_optimizer, STEPS)
    for step in range(STEPS):
        grads = draw((1, step), dtype)
        for tensor, g in zip(theirs, tensors(grads), strict=True):
            tensor.grad = g
        their_optimizer.step()
        scheduler.step()
        updates, state = optimizer.update(grads, state, params)
        params = F.apply_updates(params, updates)
        assert_close(params, theirs, dtype)


S = O.lr_scheduler

# Ours, PyTorch's, and the number of steps for which PyTorch's is defined, or does not restart.
SCHEDULES = {
    "ConstantLR": (F.constant_schedule(0.3), lambda o: S.ConstantLR(o, 1.0), 20),
    "ExponentialLR": (F.exponential_decay(0.3, 1, rate=0.9), lambda o: S.ExponentialLR(o, 0.9), 20),
    "StepLR": (
        F.exponential_decay(0.3, 4, rate=0.5, staircase=True), lambda o: S.StepLR(o, 4, 0.5), 20
    ),
    "MultiStepLR": (
        F.step_decay(0.3, (3, 7), factor=0.2), lambda o: S.MultiStepLR(o, [3, 7], 0.2), 20
    ),
    "PolynomialLR": (
        F.polynomial_decay(0.3, 9, power=2.0), lambda o: S.PolynomialLR(o, 9, power=2.0), 20
    ),
    "LinearLR": (F.warmup(0.3, 7, initial=0.03), lambda o: S.LinearLR(o, 0.1, 1.0, 7), 20),
    "LinearLR down": (
        F.polynomial_decay(0.3, 7, final=0.15), lambda o: S.LinearLR(o, 1.0, 0.5, 7), 20
    ),
    "CosineAnnealingLR": (
        F.cosine_decay(0.3, 9, final=0.02), lambda o: S.CosineAnnealingLR(o, 9, 0.02), 10
    ),
    "OneCycleLR": (F.one_cycle(0.3, 20), lambda o: S.OneCycleLR(o, 0.3, 20), 20),
    "OneCycleLR, linear": (
        F.one_cycle(0.3, 17, rising=0.25, initial_divisor=10.0, final_divisor=100.0, linear=True),
        lambda o: S.OneCycleLR(
            o, 0.3, 17, pct_start=0.25, div_factor=10, final_div_factor=100,
            anneal_strategy="linear",
        ),
        17,
    ),
    "OneCycleLR, falling only": (
        F.one_cycle(0.3, 8, rising=0.0), lambda o: S.OneCycleLR(o, 0.3, 8, pct_start=0.0), 8
    ),
    "SequentialLR": (
        F.warmup(F.cosine_decay(0.3, 12), 5, initial=0.03),
        lambda o: S.SequentialLR(
            o, [S.LinearLR(o, 0.1, 1.0, 5), S.CosineAnnealingLR(o, 12)], milestones=[5]
        ),
        18,
    ),
    "SequentialLR of three": (
        F.join_schedules(
            (F.exponential_decay(0.3, 1, rate=0.9), 0.3, F.exponential_decay(0.3, 1, rate=0.5)),
            (4, 9),
        ),
        lambda o: S.SequentialLR(
            o, [S.ExponentialLR(o, 0.9), S.ConstantLR(o, 1.0), S.ExponentialLR(o, 0.5)], [4, 9]
        ),
        20,
    ),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:The epoch parameter in:UserWarning")
@pytest.mark.parametrize(("schedule", "make", "steps"), SCHEDULES.values(), ids=SCHEDULES)
def test_schedules_agree_with_pytorch(schedule, make, steps):
    optimizer = O.SGD([torch.zeros(1)], 0.3)
    scheduler = make(optimizer)
    for step in range(steps):
        (expected,) = scheduler.get_last_lr()
        assert schedule(step) == pytest.approx(expected, rel=1e-9, abs=1e-15), step
        optimizer.step()
        if step < steps - 1:
            scheduler.step()
