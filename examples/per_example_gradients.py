"""Find wrong labels by the gradient of each example.

The script replaces a few labels of the training digits by wrong ones. After a few epochs, the
network has learned most labels, but an example with a wrong label still has a large gradient norm.
The script prints the fraction of wrong labels among the largest norms, and the noise scale of the
mean gradient.

    python examples/per_example_gradients.py --wrong 0.05
"""

import argparse

import numpy as np
from example_data import digits
from options import integer, number, seed

import npdl.functional as F
from npdl import random, tree
from npdl.training import fit


def with_wrong(labels, fraction, key):
    """Return labels with a fraction replaced by other digits, and a boolean array of these."""
    generator = random.generator(random.fold(key, "wrong"))
    wrong = generator.permutation(len(labels)) < round(fraction * len(labels))
    return np.where(wrong, (labels + generator.integers(1, 10, len(labels))) % 10, labels), wrong


def main():
    """Replace labels, train, and search for the wrong ones."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--wrong",
        type=number(0.01, 0.99),
        default=0.05,
        help="the fraction of wrong labels; default 0.05",
    )
    parser.add_argument("--epochs", type=integer(), default=8, help="default 8")
    parser.add_argument("--seed", type=seed, default=0, help="seed of the labels and the training")
    parser.add_argument("--quick", action="store_true", help="fewer examples")
    arguments = parser.parse_args()

    key = random.key(arguments.seed)
    (x, labels), _, _ = digits(key)
    if arguments.quick:
        x, labels = x[:400], labels[:400]
    labels, wrong = with_wrong(labels, arguments.wrong, key)
    model = F.serial(F.flatten(), F.dense(64), F.relu(), F.dense(10))
    state, _ = fit(
        model,
        F.softmax_cross_entropy,
        F.adam(2e-3),
        (x, labels),
        epochs=arguments.epochs,
        rng=key,
        progress=False,
    )
    each = F.per_example_grads(model, F.softmax_cross_entropy)(state.params, x, labels)
    vectors = np.concatenate([leaf.reshape(len(x), -1) for leaf in tree.leaves(each)], axis=1)
    norms = np.linalg.norm(vectors, axis=1)
    ranks = np.argsort(-norms)
    count = int(wrong.sum())
    found = wrong[ranks[:count]].mean()
    # The probability that a wrong label has a larger norm than a correct one.
    auc = np.mean(norms[wrong][:, None] > norms[~wrong])
    mean = vectors.mean(0)
    noise = vectors.var(0).sum() / np.sum(mean**2)

    print(f"{len(x)} examples, {count} wrong labels, {vectors.shape[1]} parameters")
    print(
        f"median norm of a gradient: correct {np.median(norms[~wrong]):.3f}, "
        f"wrong {np.median(norms[wrong]):.3f}"
    )
    print(f"of the {count} largest gradients, {found:.1%} belong to wrong labels")
    print(f"of all gradients, {count / len(x):.1%}")
    print(f"a wrong label has a larger gradient than a correct one in {auc:.1%} of the pairs")
    print(f"gradient noise scale: {noise:.0f} examples")


if __name__ == "__main__":
    main()
