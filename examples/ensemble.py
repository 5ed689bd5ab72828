"""Train an ensemble as one model, whose parameters are those of its members, stacked.

A layer of our own applies another layer once for each member. So the members are trained together
by one call of `fit`, and any one of them is a slice of the tree. Prints how well each digit is read
by the members, by all together, and by a network with the mean of their parameters, which no
longer is a member of anything.

    python examples/ensemble.py --members 8
"""

import argparse

import numpy as np
from datasets import digits
from options import seed, whole

import npdl.functional as F
from npdl import random, tree
from npdl.training import fit, predict


def stacked(*trees):
    """Return one tree of arrays with a first axis for the trees."""
    return tree.map(lambda *leaves: np.stack(leaves), *trees)


def member(params, k):
    """Return the tree of one member."""
    return tree.map(lambda leaf: leaf[k], params)


@F.layer
def ensemble(inner, members):
    """Apply a layer with each member's parameters: (batch, ...) to (batch, members, ...)."""

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
    """Train, and compare the members with the whole."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--members", type=whole(2, 1000), help="default 8")
    parser.add_argument("--epochs", type=whole(), help="default 25")
    parser.add_argument("--seed", type=seed, default=0, help="decides the split and the training")
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
    spread = logs.argmax(2)
    agree = (spread == spread[:, :1]).all(1)
    right = mean.argmax(1) == test_labels

    print(f"{members} members, {tree.count(state.params)} parameters in one tree")
    print("test accuracy, and cross-entropy:")
    print(f"  a member, on average  {np.mean(accuracies):.4f}  {np.mean(losses):.4f}")
    print(f"  the best member       {max(accuracies):.4f}  {min(losses):.4f}")
    for name, log in (("all together", mean), ("the mean parameters", averaged)):
        loss = -log[rows, test_labels].mean()
        print(f"  {name:<20}  {F.accuracy(log, test_labels):.4f}  {loss:.4f}")
    print(
        f"where all members agree, on {agree.mean():.0%} of the digits, {right[agree].mean():.1%} "
        f"are read rightly; where they do not, {right[~agree].mean():.1%}"
    )


if __name__ == "__main__":
    main()
