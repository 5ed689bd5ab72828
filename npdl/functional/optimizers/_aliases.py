"""Optimizers by name: each is a chain of transforms, and its repr shows them.

>>> import npdl.functional as F
>>> F.adamw(1e-3, mask="*weight")
chain(scale_by_adam(), add_decayed_weights(rate=0.01, mask='*weight'),
      scale_by_learning_rate(learning_rate=0.001))

A learning rate is a number or a schedule. PyTorch's argument `weight_decay` of most optimizers adds
the decay to the gradient; here it is a transform:
``chain(add_decayed_weights(1e-4), momentum(0.1))``. Defaults are PyTorch's, or the paper's if
PyTorch lacks the optimizer.
"""

from npdl._calls import explained
from npdl.functional._checks import check_flag, check_number
from npdl.functional.optimizers._adam import (
    scale_by_adam,
    scale_by_adamax,
    scale_by_lion,
    scale_by_nadam,
)
from npdl.functional.optimizers._adaptive import (
    scale_by_adadelta,
    scale_by_adagrad,
    scale_by_rmsprop,
)
from npdl.functional.optimizers._combining import chain
from npdl.functional.optimizers._optimizer import Optimizer, Select
from npdl.functional.optimizers._schedules import Schedule
from npdl.functional.optimizers._transforms import (
    add_decayed_weights,
    scale_by_learning_rate,
    trace,
)

__all__ = [
    "adadelta",
    "adagrad",
    "adam",
    "adamax",
    "adamw",
    "lion",
    "momentum",
    "nadam",
    "nesterov_momentum",
    "rmsprop",
    "sgd",
]


@explained
def sgd(
    learning_rate: float | Schedule, *, momentum: float = 0.0, nesterov: bool = False
) -> Optimizer:
    """Stochastic gradient descent: ``v = momentum * v + g``, ``p = p - learning_rate * v``.

    Without momentum, this is ``p = p - learning_rate * g``.

    Parameters
    ----------
    learning_rate : float or schedule
        The factor of the updates.
    momentum : float
        As `decay` in :func:`momentum`, in [0, 1).
    nesterov : bool
        Whether to look ahead, as :func:`nesterov_momentum`; without momentum, it changes nothing.

    Raises
    ------
    ValueError
        If the momentum is not in [0, 1).

    References
    ----------
    Robbins, Monro: A stochastic approximation method, 1951.

    Examples
    --------
    >>> import npdl.functional as F
    >>> F.sgd(0.1)
    scale_by_learning_rate(learning_rate=0.1)
    >>> F.sgd(0.1, momentum=0.9, nesterov=True) == F.nesterov_momentum(0.1, decay=0.9)
    True
    """
    decay = check_number(momentum, "sgd(0.1, momentum=0.9)", "in [0, 1)")
    nesterov = check_flag(nesterov, "sgd(0.1, nesterov=True)")
    rate = scale_by_learning_rate(learning_rate)
    return chain(trace(decay, nesterov=nesterov), rate) if decay else rate


@explained
def momentum(learning_rate: float | Schedule, *, decay: float = 0.9) -> Optimizer:
    """Gradient descent with momentum: ``v = decay * v + g``, ``p = p - learning_rate * v``.

    For a constant learning rate this is ``v = decay * v - learning_rate * g``, ``p = p + v``.

    Parameters
    ----------
    learning_rate : float or schedule
        The factor of the updates.
    decay : float
        The momentum, in [0, 1).

    References
    ----------
    Polyak: Some methods of speeding up the convergence of iteration methods, 1964.

    Examples
    --------
    >>> import npdl.functional as F
    >>> F.momentum(0.1)
    chain(trace(decay=0.9), scale_by_learning_rate(learning_rate=0.1))
    """
    return chain(trace(decay), scale_by_learning_rate(learning_rate))


@explained
def nesterov_momentum(learning_rate: float | Schedule, *, decay: float = 0.9) -> Optimizer:
    """Momentum, looking ahead: ``v = decay * v + g``, ``p = p - learning_rate * (decay * v + g)``.

    In this form, the gradient is computed at `p`, and not at the look-ahead point.

    Parameters
    ----------
    learning_rate : float or schedule
        The factor of the updates.
    decay : float
        The momentum, in [0, 1).

    References
    ----------
    Sutskever, Martens, Dahl, Hinton: On the importance of initialization and momentum in deep
    learning, 2013, equations 3 and 4. Bengio, Boulanger-Lewandowski, Pascanu: Advances in
    optimizing recurrent networks, 2012, equation 7, for this form.

    Examples
    --------
    >>> import npdl.functional as F
    >>> F.nesterov_momentum(0.1)
    chain(trace(decay=0.9, nesterov=True), scale_by_learning_rate(learning_rate=0.1))
    """
    return chain(trace(decay, nesterov=True), scale_by_learning_rate(learning_rate))


@explained
def adagrad(
    learning_rate: float | Schedule = 1e-2,
    *,
    epsilon: float = 1e-10,
    initial_squares: float = 0.0,
    epsilon_inside: bool = False,
) -> Optimizer:
    """Adagrad: gradients divided by the root of the sum of squared gradients.

    With the learning rate η::

        s = s + g²    p = p - η g / (√s + ε)

    Parameters
    ----------
    learning_rate : float or schedule
        The factor of the updates.
    epsilon, initial_squares, epsilon_inside
        See :func:`scale_by_adagrad`; as in PyTorch, ε is outside the root by default.

    References
    ----------
    Duchi, Hazan, Singer: Adaptive subgradient methods for online learning and stochastic
    optimization, 2011, figure 1, with diagonal matrices.

    Examples
    --------
    >>> import npdl.functional as F
    >>> F.adagrad(0.1)
    chain(scale_by_adagrad(), scale_by_learning_rate(learning_rate=0.1))
    """
    transform = scale_by_adagrad(
        epsilon=epsilon, initial_squares=initial_squares, epsilon_inside=epsilon_inside
    )
    return chain(transform, scale_by_learning_rate(learning_rate))


@explained
def rmsprop(
    learning_rate: float | Schedule = 1e-2,
    *,
    decay: float = 0.99,
    epsilon: float = 1e-8,
    epsilon_inside: bool = False,
) -> Optimizer:
    """RMSprop: gradients divided by the root mean square of recent gradients.

    With the learning rate η and the decay ρ::

        s = ρ s + (1 - ρ) g²    p = p - η g / (√s + ε)

    Parameters
    ----------
    learning_rate : float or schedule
        The factor of the updates.
    decay, epsilon, epsilon_inside
        See :func:`scale_by_rmsprop`; as in PyTorch, ε is outside the root by default.

    References
    ----------
    Tieleman, Hinton: Neural networks for machine learning, 2012, lecture 6.5.

    Examples
    --------
    >>> import npdl.functional as F
    >>> F.rmsprop(1e-3, decay=0.9)
    chain(scale_by_rmsprop(decay=0.9), scale_by_learning_rate(learning_rate=0.001))
    """
    transform = scale_by_rmsprop(decay=decay, epsilon=epsilon, epsilon_inside=epsilon_inside)
    return chain(transform, scale_by_learning_rate(learning_rate))


@explained
def adadelta(
    learning_rate: float | Schedule = 1.0, *, decay: float = 0.9, epsilon: float = 1e-6
) -> Optimizer:
    """Adadelta: gradients scaled by the root mean squares of past updates and gradients.

    With the learning rate η and the decay ρ::

        s = ρ s + (1 - ρ) g²    u = g √(d + ε) / √(s + ε)
        p = p - η u    d = ρ d + (1 - ρ) u²

    Parameters
    ----------
    learning_rate : float or schedule
        The factor of the updates; the paper has none.
    decay, epsilon
        See :func:`scale_by_adadelta`; ε is inside both roots.

    References
    ----------
    Zeiler: ADADELTA: An adaptive learning rate method, 2012, algorithm 1.

    Examples
    --------
    >>> import npdl.functional as F
    >>> F.adadelta()
    chain(scale_by_adadelta(), scale_by_learning_rate(learning_rate=1.0))
    """
    transform = scale_by_adadelta(decay=decay, epsilon=epsilon)
    return chain(transform, scale_by_learning_rate(learning_rate))


@explained
def adam(
    learning_rate: float | Schedule = 1e-3,
    *,
    beta1: float = 0.9,
    beta2: float = 0.999,
    epsilon: float = 1e-8,
) -> Optimizer:
    """Adam: the mean gradient divided by the root mean square, both with bias correction.

    With the learning rate η, in the update t, counted from 1::

        m = β₁ m + (1 - β₁) g    v = β₂ v + (1 - β₂) g²
        p = p - η m / (1 - β₁ᵗ) / (√(v / (1 - β₂ᵗ)) + ε)

    Parameters
    ----------
    learning_rate : float or schedule
        The factor of the updates.
    beta1, beta2, epsilon
        See :func:`scale_by_adam`; ε is outside the root.

    References
    ----------
    Kingma, Ba: Adam: A method for stochastic optimization, 2014, algorithm 1.

    Examples
    --------
    >>> import npdl.functional as F
    >>> F.adam(1e-3)
    chain(scale_by_adam(), scale_by_learning_rate(learning_rate=0.001))
    """
    transform = scale_by_adam(beta1=beta1, beta2=beta2, epsilon=epsilon)
    return chain(transform, scale_by_learning_rate(learning_rate))


@explained
def adamax(
    learning_rate: float | Schedule = 2e-3,
    *,
    beta1: float = 0.9,
    beta2: float = 0.999,
    epsilon: float = 1e-8,
) -> Optimizer:
    """Adamax: Adam with a decaying maximum of the gradients instead of the root mean square.

    With the learning rate η, in the update t, counted from 1::

        m = β₁ m + (1 - β₁) g    s = max(β₂ s, |g| + ε)
        p = p - η m / (1 - β₁ᵗ) / s

    Parameters
    ----------
    learning_rate : float or schedule
        The factor of the updates.
    beta1, beta2, epsilon
        See :func:`scale_by_adamax`; ε is added to the gradient's size, as in PyTorch.

    References
    ----------
    Kingma, Ba: Adam: A method for stochastic optimization, 2014, section 7.1, algorithm 2.

    Examples
    --------
    >>> import npdl.functional as F
    >>> F.adamax()
    chain(scale_by_adamax(), scale_by_learning_rate(learning_rate=0.002))
    """
    transform = scale_by_adamax(beta1=beta1, beta2=beta2, epsilon=epsilon)
    return chain(transform, scale_by_learning_rate(learning_rate))


@explained
def adamw(
    learning_rate: float | Schedule = 1e-3,
    *,
    beta1: float = 0.9,
    beta2: float = 0.999,
    epsilon: float = 1e-8,
    weight_decay: float = 1e-2,
    mask: Select | None = None,
) -> Optimizer:
    """Adam with decoupled weight decay: also ``p = p - learning_rate * weight_decay * p``.

    With the learning rate η and the weight decay λ, in the update t, counted from 1::

        m = β₁ m + (1 - β₁) g    v = β₂ v + (1 - β₂) g²
        p = p - η (m / (1 - β₁ᵗ) / (√(v / (1 - β₂ᵗ)) + ε) + λ p)

    Parameters
    ----------
    learning_rate : float or schedule
        The factor of the updates, including the decay.
    beta1, beta2, epsilon
        See :func:`scale_by_adam`.
    weight_decay, mask
        See :func:`add_decayed_weights`; ``mask="*weight"`` excludes biases and norms.

    References
    ----------
    Loshchilov, Hutter: Decoupled weight decay regularization, 2017, algorithm 2.

    Examples
    --------
    >>> import npdl.functional as F
    >>> F.adamw(1e-3, weight_decay=0.1).elementwise
    True
    """
    weight_decay = check_number(weight_decay, "adamw(weight_decay=0.01)", "of at least 0")
    return chain(
        scale_by_adam(beta1=beta1, beta2=beta2, epsilon=epsilon),
        add_decayed_weights(weight_decay, mask=mask),
        scale_by_learning_rate(learning_rate),
    )


@explained
def nadam(
    learning_rate: float | Schedule = 2e-3,
    *,
    beta1: float = 0.9,
    beta2: float = 0.999,
    epsilon: float = 1e-8,
    momentum_decay: float = 4e-3,
) -> Optimizer:
    """Nadam: Adam with Nesterov's momentum.

    With the learning rate η, in the update t, counted from 1; Πₜ is the product of all μ up to t::

        m = β₁ m + (1 - β₁) g    v = β₂ v + (1 - β₂) g²
        μₜ = β₁ (1 - 0.96^(t momentum_decay) / 2)
        p = p - η (μₜ₊₁ m / (1 - Πₜ₊₁) + (1 - μₜ) g / (1 - Πₜ)) / (√(v / (1 - β₂ᵗ)) + ε)

    Parameters
    ----------
    learning_rate : float or schedule
        The factor of the updates.
    beta1, beta2, epsilon, momentum_decay
        See :func:`scale_by_nadam`.

    References
    ----------
    Dozat: Incorporating Nesterov momentum into Adam, 2016, algorithm 2.

    Examples
    --------
    >>> import npdl.functional as F
    >>> F.nadam()
    chain(scale_by_nadam(), scale_by_learning_rate(learning_rate=0.002))
    """
    transform = scale_by_nadam(
        beta1=beta1, beta2=beta2, epsilon=epsilon, momentum_decay=momentum_decay
    )
    return chain(transform, scale_by_learning_rate(learning_rate))


@explained
def lion(
    learning_rate: float | Schedule = 1e-4,
    *,
    beta1: float = 0.9,
    beta2: float = 0.99,
    weight_decay: float = 0.0,
    mask: Select | None = None,
) -> Optimizer:
    """Lion: updates of constant size, with the sign of a mean gradient.

    With the learning rate η and the weight decay λ::

        u = sign(β₁ m + (1 - β₁) g)    m = β₂ m + (1 - β₂) g
        p = p - η (u + λ p)

    where `u` is computed from the old `m`.

    Parameters
    ----------
    learning_rate : float or schedule
        The size of each number's update; 3 to 10 times smaller than for AdamW.
    beta1, beta2
        See :func:`scale_by_lion`.
    weight_decay, mask
        See :func:`add_decayed_weights`; a decay of 0 omits this transform.

    References
    ----------
    Chen et al.: Symbolic discovery of optimization algorithms, 2023, algorithm 2.

    Examples
    --------
    >>> import npdl.functional as F
    >>> F.lion()
    chain(scale_by_lion(), scale_by_learning_rate(learning_rate=0.0001))
    """
    # Without this transform, `update` does not need the params.
    weight_decay = check_number(weight_decay, "lion(weight_decay=0.1)", "of at least 0")
    decay = (add_decayed_weights(weight_decay, mask=mask),) if weight_decay != 0 else ()
    transform = scale_by_lion(beta1=beta1, beta2=beta2)
    return chain(transform, *decay, scale_by_learning_rate(learning_rate))
