"""Scores and times of the estimators for scikit-learn and of its MLPs, both at their defaults.

Each row is the mean over five folds and several random states, with standardized features and the
same hidden layers. A time covers fit and predict of one fold, the minimum of several runs.

    OPENBLAS_NUM_THREADS=1 python benchmarks/estimators.py
"""

import argparse
import time
import warnings

import numpy as np
from sklearn.base import clone, is_classifier
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits, load_wine
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import KFold, StratifiedKFold
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from npdl.sklearn import NpdlClassifier, NpdlRegressor

DATA = {
    "digits": (load_digits, MLPClassifier, NpdlClassifier),
    "breast cancer": (load_breast_cancer, MLPClassifier, NpdlClassifier),
    "wine": (load_wine, MLPClassifier, NpdlClassifier),
    "diabetes": (load_diabetes, MLPRegressor, NpdlRegressor),
}
SIZES = [(100,), (64, 64)]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--states", type=int, default=5, help="number of random states")
    parser.add_argument("--repeats", type=int, default=3, help="number of runs per time")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore", ConvergenceWarning)
    print("| data | hidden | MLP: score | npdl: score | MLP: ms | npdl: ms |")
    print("|---|---|---|---|---|---|")
    for name, (load, mlp, npdl) in DATA.items():
        for sizes in SIZES:
            models = [mlp(hidden_layer_sizes=sizes), npdl(hidden=sizes)]
            results = compare(models, *load(return_X_y=True), arguments.states, arguments.repeats)
            (a, b), (s, t) = results
            print(
                f"| {name} | {sizes} | {a:.3f} | {b:.3f} | {1e3 * s:.0f} | {1e3 * t:.0f} |",
                flush=True,
            )


def compare(models, x, y, states=1, repeats=1):
    """Return the mean scores and the mean times of two estimators, which run in alternation."""
    kind = StratifiedKFold if is_classifier(models[0]) else KFold
    scores, times = [], []
    for state in range(states):
        for train, test in kind(5, shuffle=True, random_state=state).split(x, y):
            pipelines = [
                make_pipeline(StandardScaler(), clone(model).set_params(random_state=state))
                for model in models
            ]
            spent = []
            for _ in range(repeats):
                runs = [timed(pipeline, x, y, train, test) for pipeline in pipelines]
                spent.append([seconds for _, seconds in runs])
            scores.append([score for score, _ in runs])
            times.append(np.min(spent, axis=0))
    return np.mean(scores, axis=0), np.mean(times, axis=0)


def timed(pipeline, x, y, train, test):
    """Return the score on the test examples, and the seconds of training and prediction."""
    start = time.perf_counter()
    score = pipeline.fit(x[train], y[train]).score(x[test], y[test])
    return score, time.perf_counter() - start


if __name__ == "__main__":
    main()
