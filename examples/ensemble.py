"""Train an ensemble as one model with stacked parameters.

A custom layer applies another layer once per member. So one call of `fit` trains all members
together, and each member is a slice of the tree. The script prints the test accuracy of the
members, of the ensemble, and of a network with the mean of the members' parameters.

    python examples/ensemble.py --members 8
"""

import argparse

import numpy as np
from example_data import digits
from options import integer, seed

import npdl.functional as F
from npdl import random, tree
from npdl.training import fit, predict


def stacked(*trees):
    """Return one tree of arrays, stacked along a new first axis."""
    return tree.map(lambda *leaves: np.stack(leaves), *trees)


def member(params, k):
    """Return the parameters of one member."""
    return tree.map(lambda leaf: leaf[k], params)


@F.layer
def ensemble(inner, members):
    """Apply a layer with the parameters of each member: (batch, ...) to (batch, members, ...)."""

    def init(rng, shape):
        return stacked(*(inner.init(random.fold(rng, k), shape) for k in range(members)))

    def apply(params, x, *, train=False, rng=None):
        results = [
            inner.apply(
                member(params, k), x, train=train, rng=None if rng is None else random.fold(rng, k)
            )
            for k in range(members)
        ]
        return np.stack([y for y, _ in results], axis=1), [cache for _, cache in results]

    def backward(params, caches, g, *, input_grad=True):
        results = [
            inner.backward(member(params, k), cache, g[:, k], input_grad=input_grad)
            for k, cache in enumerate(caches)
        ]
        dx = sum(dx for _, dx in results) if input_grad else None
        return stacked(*(grads for grads, _ in results)), dx

    def out_shape(shape):
        return (members, *inner.out_shape(shape))

    return F.Layer(init, apply, backward, out_shape)


def log_probabilities(scores):
    """Return the logarithms of the probabilities of classes, in float64."""
    return F.log_softmax()((), scores.astype(np.float64))


def main():
    """Train, and compare the members with the ensemble."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--members", type=integer(2, 1000), help="default 8")
    parser.add_argument("--epochs", type=integer(), help="default 25")
    parser.add_argument("--seed", type=seed, default=0, help="seed of the split and the training")
    parser.add_argument("--quick", action="store_true", help="three members and four epochs")
    arguments = parser.parse_args()
    members = arguments.members or (3 if arguments.quick else 8)
    epochs = arguments.epochs or (4 if arguments.quick else 25)

    key = random.key(arguments.seed)
    (x, labels), _, (test_x, test_labels) = digits(key)
    inner = F.serial(F.flatten(), F.dense(64), F.relu(), F.dense(10))
    model = ensemble(inner, members)
    # Every member has the same targets.
    targets = np.repeat(labels[:, None], members, axis=1)
    state, _ = fit(
        model,
        F.softmax_cross_entropy,
        F.adam(3e-3 * members),
        (x, targets),
        epochs=epochs,
        rng=key,
        progress=False,
    )
    logs = log_probabilities(predict(model, state.params, test_x))
    rows = np.arange(len(test_labels))
    accuracies = [F.accuracy(logs[:, k], test_labels) for k in range(members)]
    losses = -logs[rows, :, test_labels].mean(0)
    mean = np.log(np.exp(logs).mean(1))
    average = tree.map(lambda leaf: leaf.mean(0), state.params)
    averaged = log_probabilities(predict(inner, average, test_x))
    votes = logs.argmax(2)
    agree = (votes == votes[:, :1]).all(1)
    correct = mean.argmax(1) == test_labels

    print(f"{members} members, {tree.count(state.params)} parameters in one tree")
    print("test accuracy, and cross-entropy:")
    print(f"  a member, on average  {np.mean(accuracies):.4f}  {np.mean(losses):.4f}")
    print(f"  the best member       {max(accuracies):.4f}  {min(losses):.4f}")
    for name, log in (("the ensemble", mean), ("the mean parameters", averaged)):
        loss = -log[rows, test_labels].mean()
        print(f"  {name:<20}  {F.accuracy(log, test_labels):.4f}  {loss:.4f}")
    print(
        f"all members agree on {agree.mean():.0%} of the digits, and {correct[agree].mean():.1%} "
        f"of these are classified correctly; of the others, {correct[~agree].mean():.1%}"
    )


if __name__ == "__main__":
    main()
