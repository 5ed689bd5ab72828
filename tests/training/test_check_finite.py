"""Numbers that are not finite: named with their step, layer and array, or warned of."""

import numpy as np
import pytest
from arrays import same_bits
from classifier import DATA, LOSS, MODEL, each_optimizer, run

import npdl
import npdl.functional as F
from npdl.training import TrainState, fit, train_step


def without(name):
    """Return the good data with one number made not finite."""
    x, y = DATA[0].copy(), DATA[1]
    x[13, 2] = {"nan": np.nan, "inf": np.inf}[name]
    return x, y


@F.layer
def faulty(where):
    """Pass everything on, but break one number in the forward or the backward pass."""

    def broken(array, here):
        array = array.copy()
        array[0, 1] = np.nan if here == where else array[0, 1]
        return array

    return F.Layer(
        lambda rng, shape: (),
        lambda params, x: (broken(x, "apply"), None),
        lambda params, cache, g: (None, broken(g, "backward")),
    )


def nan_loss(outputs, labels):
    value, g = LOSS(outputs, labels)
    return value * np.nan, g


FINITE = {
    "data": (MODEL, LOSS, without("nan"), ["the input is not finite", "nan at index (13, 2)"]),
    "infinite data": (MODEL, LOSS, without("inf"), ["the input is not finite", "inf at index"]),
    "a layer": (
        F.serial(F.dense(4), F.residual(F.dense(4), faulty("apply")), F.dense(3)),
        LOSS,
        DATA,
        ["the output is not finite", "in residual[1] = faulty", "in serial[1] = residual"],
    ),
    "a gradient": (
        F.serial(F.dense(4), faulty("backward"), F.dense(3)),
        LOSS,
        DATA,
        ["the gradient of the input is not finite", "in backward of serial[1] = faulty"],
    ),
    "the loss": (MODEL, nan_loss, DATA, ["the loss is not finite"]),
}


@pytest.mark.parametrize(("model", "loss", "data", "expected"), FINITE.values(), ids=FINITE)
def test_check_finite_names_step_layer_and_array(model, loss, data, expected):
    with pytest.raises(FloatingPointError) as caught:
        fit(
            model, loss, F.sgd(0.1), data, batch_size=50, shuffle=False, progress=False,
            check_finite=True,
        )  # fmt: skip
    text = "\n".join([str(caught.value), *caught.value.__notes__])
    for part in [*expected, "in step 0"]:
        assert part in text


def test_check_finite_names_the_parameters_that_broke():
    with (
        np.errstate(all="ignore"),
        pytest.raises(FloatingPointError, match="the parameters 0/bias is not finite") as caught,
    ):
        fit(
            F.serial(F.dense(3)), LOSS, F.sgd(1e39), DATA, epochs=9, progress=False,
            check_finite=True,
        )  # fmt: skip
    assert "after the update of step 0" in caught.value.__notes__[0]


def huge_gradient(outputs, targets):
    value, g = F.mean_squared_error(outputs, targets)
    return value, np.full_like(g, 1e21)


UPDATES = {
    "the last step": (F.sgd(1e39), huge_gradient, "the parameters bias is not finite"),
    "squares": (F.adam(0.1), huge_gradient, "the state of the optimizer 0/squares/bias is not fin"),
    "a sum of squares": (F.adagrad(0.1), huge_gradient, "optimizer 0/squares/bias is not finite"),
    "a clipped sum": (
        F.chain(F.clip_by_value(1e30), F.rmsprop(0.1)),
        huge_gradient,
        "the state of the optimizer 1/0/squares/bias is not finite",
    ),
}


@pytest.mark.parametrize(("optimizer", "loss", "message"), UPDATES.values(), ids=UPDATES)
def test_check_finite_sees_the_update_of_the_last_step(optimizer, loss, message):
    x = np.ones((4, 1), np.float32)
    options = {"epochs": 1, "batch_size": 4, "progress": False, "check_finite": True}
    with pytest.raises(FloatingPointError, match=message) as caught:
        fit(F.dense(1), loss, optimizer, (x, x), **options)
    assert "after the update of step 0" in caught.value.__notes__[0]
    # The state before that step is at hand.
    first = TrainState.create(F.dense(1), optimizer, (1,))
    assert same_bits(caught.value.state, first)
    step = train_step(F.dense(1), loss, optimizer, check_finite=True)
    with pytest.raises(FloatingPointError, match=message):
        step(first, (x, x))


@pytest.mark.filterwarnings("ignore:the gradients after the last update")
@each_optimizer
def test_check_finite_changes_no_bit_of_a_run_that_stays_finite(optimizer):
    checked, history = run(epochs=2, check_finite=True, optimizer=optimizer)
    state, expected = run(epochs=2, optimizer=optimizer)
    assert same_bits(checked, state)
    assert history == expected


@pytest.mark.parametrize("number", [np.nan, np.inf])
def test_a_loss_that_is_not_finite_is_warned_of_once(number):
    x, y = DATA[0].copy(), DATA[1]
    x[13, 2] = number
    with np.errstate(all="ignore"), pytest.warns(RuntimeWarning) as caught:
        state, history = run(data=(x, y), epochs=3)
    (message,) = [str(each.message) for each in caught]
    assert message.startswith(
        "the loss of epoch 0 is nan, and training continues; fit(..., check_f"
    )
    assert "TerminateOnNaN()" in message
    assert caught[0].filename.endswith("classifier.py")
    assert len(history["loss"]) == 3
    assert state.step == 21


def test_a_model_of_compat_warns_of_a_loss_that_is_not_finite():
    model = npdl.Model([npdl.layers.Dense(n_out=1, n_in=1)])
    model.compile(loss="mse", optimizer="sgd")
    x = np.array([[1.0], [np.nan]], np.float32)
    with pytest.warns(RuntimeWarning, match="the loss of epoch 0 is nan"):
        model.fit(x, x, epochs=2, verbose=0)
