"""Estimators for scikit-learn (an extra): a network with `fit`, `predict` and `score`.

Pipelines, searches, cross-validation, ensembles and all other tools of scikit-learn take them.
:func:`npdl.training.fit` trains the network, so its losses, optimizers, metrics and callbacks are
the arguments.

>>> from sklearn.datasets import load_wine
>>> from sklearn.model_selection import cross_val_score
>>> from sklearn.pipeline import make_pipeline
>>> from sklearn.preprocessing import StandardScaler
>>> from npdl.sklearn import NpdlClassifier
>>> model = make_pipeline(StandardScaler(), NpdlClassifier(hidden=(16,)))
>>> bool(cross_val_score(model, *load_wine(return_X_y=True)).mean() > 0.9)
True
"""

from npdl.sklearn._classifier import NpdlClassifier
from npdl.sklearn._regressor import NpdlRegressor

__all__ = ["NpdlClassifier", "NpdlRegressor"]
