"""Solve Poisson's equation in one dimension with a neural network.

The network approximates the solution u of -u'' = f with u(0) = u(1) = 0, and its derivative s. The
loss has no data: it is the mean square of the residuals u' - s and s' + f at some points. So the
loss contains derivatives of the network in its input. F.jvp computes them, and F.hvp their
gradients in the parameters. The factor x (1 - x) of u fulfills the boundary conditions.

    python examples/poisson.py --output solution.png

Raissi, Perdikaris, Karniadakis: Physics-informed neural networks, 2019; as a system of first order,
Cai, Chen, Liu, Liu: Deep least-squares methods, 2020.
"""

import argparse

import numpy as np
from options import integer, picture, seed

import npdl.functional as F
from npdl import random, tree


def solution(x):
    """Return the exact solution of the example."""
    return np.sin(np.pi * x) + 0.2 * np.sin(3 * np.pi * x)


def source(x):
    """Return the right side f = -u'' of the example."""
    return np.pi**2 * np.sin(np.pi * x) + 0.2 * (3 * np.pi) ** 2 * np.sin(3 * np.pi * x)


def linear(outputs, weights):
    """Return ``⟨w, y⟩`` and its gradient."""
    return np.sum(outputs * weights), weights


def residual_loss(model, x):
    """Return a function of the parameters: the loss and its gradient."""
    f, ones, count = source(x), np.ones_like(x), len(x)
    along, mixed = F.jvp(model), F.hvp(model, linear)
    gradient = F.value_and_grad(model, linear)

    def value_and_grad(params):
        (n, s), (dn, ds) = (part.T[..., None] for part in along(params, x, None, ones))
        first = (1 - 2 * x) * n + x * (1 - x) * dn - s  # u' - s, where u = x (1 - x) n
        second = ds + f
        # The derivatives of the loss in the outputs, and in their derivatives.
        of_outputs = np.hstack([(1 - 2 * x) * first, -first]) * (2 / count)
        of_slopes = np.hstack([x * (1 - x) * first, second]) * (2 / count)
        _, grads, _ = gradient(params, x, of_outputs)
        of_derivatives = mixed(params, None, x, of_slopes, dx=ones)
        return np.mean(first**2 + second**2), tree.add(grads, of_derivatives)

    return value_and_grad


def train(model, x, steps, key):
    """Minimize the loss by L-BFGS; return the parameters and the loss."""
    from scipy.optimize import minimize

    loss = residual_loss(model, x)
    start, unravel = tree.ravel(tree.astype(model.init(key, (1,)), np.float64))

    def of_vector(vector):
        value, grads = loss(unravel(vector))
        return value, tree.ravel(grads)[0]

    options = {"maxiter": steps, "maxfun": 2 * steps, "ftol": 0, "gtol": 1e-12, "maxcor": 30}
    found = minimize(of_vector, start, jac=True, method="L-BFGS-B", options=options)
    return unravel(found.x), found.fun


def draw(path, x, u):
    """Draw the solution and the error."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 5), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True)
    above.plot(x, solution(x), color="gray", lw=4, alpha=0.5, label="exact")
    above.plot(x, u, color="#D55E00", label="network")
    above.legend()
    below.semilogy(x[1:-1], np.abs(u - solution(x))[1:-1])
    below.set_xlabel("x")
    below.set_ylabel("error")
    figure.savefig(path, dpi=120)


def main():
    """Train, and compare the network with the exact solution."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--points", type=integer(8), default=100, help="default 100")
    parser.add_argument("--steps", type=integer(), default=1500, help="default 1500")
    parser.add_argument("--seed", type=seed, default=0, help="seed of the initial parameters")
    parser.add_argument("--quick", action="store_true", help="fewer steps")
    parser.add_argument("--output", type=picture, help="name of a PNG with the solution")
    arguments = parser.parse_args()
    steps = min(arguments.steps, 600) if arguments.quick else arguments.steps

    model = F.serial(F.dense(24), F.tanh(), F.dense(24), F.tanh(), F.dense(2))
    points = np.linspace(0, 1, arguments.points)[:, None]
    params, loss = train(model, points, steps, random.key(arguments.seed))
    x = np.linspace(0, 1, 1001)[:, None]
    u = x * (1 - x) * model(params, x)[:, :1]
    error = np.linalg.norm(u - solution(x)) / np.linalg.norm(solution(x))
    print(f"{tree.count(params)} parameters, {len(points)} points, mean square residual {loss:.2e}")
    print(f"relative error of the solution: {error:.2e}")
    if arguments.output:
        draw(arguments.output, x, u)
        print(f"drawn: {arguments.output}")


if __name__ == "__main__":
    main()
