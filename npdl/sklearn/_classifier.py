"""The estimator of classes and of labels."""

import functools
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import attrs
import numpy as np

import npdl.functional as F
from npdl.functional._layer import Layer
from npdl.sklearn._classes import class_factors, listed
from npdl.sklearn._estimator import Estimator
from npdl.sklearn._examples import Examples
from npdl.sklearn._scikit import (
    ClassifierMixin,
    check_classification_targets,
    column_or_1d,
    type_of_target,
)
from npdl.training._scores import Metrics
from npdl.tree import Array

__all__ = ["NpdlClassifier"]

# Losses of outputs that are probabilities, and losses with one target per output. All other losses
# take logits. Their targets are class ids if each example has one class.
_OF_PROBABILITIES = F.binary_cross_entropy, F.categorical_cross_entropy, F.hellinger_distance
_OF_INDICATORS = F.binary_cross_entropy, F.sigmoid_cross_entropy


class NpdlClassifier(ClassifierMixin, Estimator):
    """A network that classifies, with the interface of scikit-learn.

    Parameters
    ----------
    model : Layer or callable, optional
        The network, which returns logits: a layer, or a function ``(n_features, n_outputs)`` that
        returns one. Its input has the shape (n_features,). `n_outputs` is the number of classes or
        labels. For two classes, a layer may also have one output. The default is dense layers with
        :func:`relu`.
    hidden : tuple of int, optional
        Sizes of the hidden layers without a `model`; by default (100,).
    loss : callable, optional
        ``loss(outputs, targets, weights)``. Targets are class ids from 0. They are arrays
        (examples, outputs) of 0 and 1 for labels, for a model with one output, and for
        :func:`sigmoid_cross_entropy`, which is then the default. Otherwise
        :func:`softmax_cross_entropy` is the default. Losses of npdl that take probabilities need a
        model that returns them.
    optimizer : Optimizer, optional
        By default ``F.adamw(2e-3, weight_decay=0.3)``.
    epochs : int
        Number of epochs of each call of `fit`.
    batch_size : int
        Number of examples per step.
    class_weight : dict or "balanced", optional
        The weights of classes; 1 for a missing one. "balanced" gives all classes the same sum of
        weights. Labels have none.
    early_stopping : bool
        Whether to hold out examples, and to end training after `patience` epochs without a smaller
        loss on them. The network then gets the parameters of the best epoch.
    validation_fraction : float
        The fraction of held out examples, drawn evenly from all classes.
    patience : int
        Number of epochs, as in :class:`npdl.callbacks.EarlyStopping`.
    warm_start : bool
        Whether `fit` continues from the last call. Two calls give the same bits as one call with
        twice the epochs.
    random_state : key, RandomState or None
        A seed, key or generator, as for :func:`npdl.random.key`; `None` for NumPy's global
        generator.
    dtype : {"float32", "float64"}
        The type of parameters and inputs in training.
    metrics : dict of callables, optional
        ``{"accuracy": F.accuracy}``: further entries of `history_`.
    callbacks : list of Callback, optional
        Callbacks of :func:`npdl.training.fit`, which gets copies of them.
    verbose : bool
        Whether to show the progress.

    Attributes
    ----------
    layer_ : Layer
        The network.
    params_ : tree
        Its parameters.
    state_ : TrainState
        The state after the last step. :func:`npdl.training.fit` can continue from it, too.
    history_ : dict of lists
        The loss and the metrics of all epochs; with `early_stopping`, also ``"val_loss"``.
    loss_ : float
        The loss of the last epoch.
    n_iter_ : int
        Number of epochs.
    classes_ : array
        The classes, sorted, or the numbers of the labels.
    n_outputs_ : int
        Number of outputs of the network.
    n_features_in_, feature_names_in_ : int, array of str
        The number of features, and their names if `X` was a DataFrame.

    Notes
    -----
    Examples that fit into one batch are sorted, and integer weights repeat them if the batch has
    room. So the result depends neither on their order, nor on weights in place of repetitions.

    Predictions are computed in float64. So the prediction of an example depends on the other rows
    of `X` by rounding errors of float64 alone.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> import npdl.functional as F
    >>> from npdl.sklearn import NpdlClassifier
    >>> x, y = load_iris(return_X_y=True)
    >>> model = F.serial(F.dense(32), F.relu(), F.dropout(0.2), F.dense(3))
    >>> classifier = NpdlClassifier(model, optimizer=F.adam(0.01), epochs=30).fit(x, y)
    >>> classifier.predict(x).shape, classifier.predict_proba(x).shape
    ((150,), (150, 3))
    >>> classifier.score(x, y) > 0.9
    True
    """

    _y_numeric = False
    _default_optimizer = F.adamw(2e-3, weight_decay=0.3)
    classes_: Array
    _multilabel: bool
    _indicators: bool

    def __init__(
        self,
        model: Layer | Callable[[int, int], Layer] | None = None,
        *,
        hidden: Iterable[int] | None = None,
        loss: Callable[..., Any] | None = None,
        optimizer: F.Optimizer | None = None,
        epochs: int = 50,
        batch_size: int = 64,
        class_weight: Mapping[Any, float] | str | None = None,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        patience: int = 10,
        warm_start: bool = False,
        random_state: Any = 0,
        dtype: Any = "float32",
        metrics: Metrics | None = None,
        callbacks: Iterable[Any] | None = None,
        verbose: bool = False,
    ) -> None:
        super().__init__(
            model, hidden=hidden, loss=loss, optimizer=optimizer, epochs=epochs,
            batch_size=batch_size, early_stopping=early_stopping,
            validation_fraction=validation_fraction, patience=patience, warm_start=warm_start,
            random_state=random_state, dtype=dtype, metrics=metrics, callbacks=callbacks,
            verbose=verbose,
        )  # fmt: skip
        self.class_weight = class_weight

    def partial_fit(
        self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None
    ) -> "NpdlClassifier":
        """Train for one epoch, and continue from the last call of `fit` or `partial_fit`.

        Several calls with the same data give the same bits as `fit` with this number of epochs.

        Parameters
        ----------
        X, y, sample_weight : arrays
            As in :meth:`fit`.
        classes : array, optional
            The classes of all calls, needed in the first call. Labels need none.

        Raises
        ------
        ValueError
            As in :meth:`fit`, and if `y` has a class that the first call did not name.
        """
        if isinstance(self.class_weight, str):
            raise ValueError(
                f"NpdlClassifier: class_weight={self.class_weight!r} needs all examples at once, "
                f"and partial_fit has a part of them; pass class_weight={{class: weight}}"
            )
        return self._train(X, y, sample_weight, partial=True, classes=classes)

    def predict(self, X: Any) -> Array:
        """Return the most likely class of each example, or its labels as 0 and 1."""
        scores = self._scores(X)
        if self._multilabel:
            return (scores > 0).astype(int)
        return self.classes_[scores.argmax(axis=1)]

    def predict_proba(self, X: Any) -> Array:
        """Return the probability of each class, or of each label."""
        scores = self._scores(X)
        return (F.sigmoid() if self._multilabel else F.softmax())((), scores)

    def predict_log_proba(self, X: Any) -> Array:
        """Return the logarithms of the probabilities."""
        scores = self._scores(X)
        return -np.logaddexp(0, -scores) if self._multilabel else F.log_softmax()((), scores)

    def decision_function(self, X: Any) -> Array:
        """Return a score for each class or label; for two classes, the score of the second one.

        The score of the second of two classes, or of a label, is its log-odds.
        """
        scores = self._scores(X)
        is_binary = len(self.classes_) == 2 and not self._multilabel
        return scores[:, 1] - scores[:, 0] if is_binary else scores

    def _scores(self, X: Any) -> Array:
        """Return the logits of labels, or scores whose softmax is the probability of classes."""
        z = self._outputs(X)
        if self._of_probabilities:
            z = _log(z) - _log(1 - z) if self._indicators else _log(z)
        if self._multilabel:
            return z
        if z.shape[1] == 1:  # of two classes
            return np.concatenate([np.zeros_like(z), z], axis=1)
        return -np.logaddexp(0, -z) if self._indicators else z

    def _design(self) -> tuple[Any, ...]:
        loss = self.loss
        while isinstance(loss, functools.partial):
            loss = loss.func
        return *super()._design(), loss in _OF_INDICATORS, loss in _OF_PROBABILITIES

    def _targets(self, y: Any, proceed: bool, partial: bool, classes: Any) -> Array:
        """Return class ids, or an array of labels; set the classes of the first call."""
        check_classification_targets(y)
        kind = type_of_target(y, input_name="y")
        if kind == "multiclass-multioutput":
            raise ValueError(
                "NpdlClassifier: y has several classes per example, expected one class, or labels "
                "that are 0 or 1; MultiOutputClassifier(NpdlClassifier()) trains one network per "
                "column"
            )
        multilabel = kind == "multilabel-indicator"
        if multilabel:
            y = y.toarray() if hasattr(y, "toarray") else y
            found = np.arange(y.shape[1])
        else:
            y = column_or_1d(y, warn=True)
            found = np.unique(y)
        if partial and not proceed and classes is None and not multilabel:
            raise ValueError(
                f"NpdlClassifier: the first call of partial_fit needs the classes of all calls: "
                f"partial_fit(X, y, classes=[{listed(found)}, ...])"
            )
        known = self.classes_ if proceed else found if classes is None else np.unique(classes)
        unseen = np.setdiff1d(found, known)
        if unseen.size or (proceed and multilabel != self._multilabel):
            raise ValueError(
                f"NpdlClassifier: y has the unknown classes [{listed(unseen)}]; the network is "
                f"trained for the classes [{listed(known)}]; a new fit with warm_start=False "
                f"trains it for others"
            )
        if proceed and classes is not None and not np.array_equal(np.unique(classes), known):
            raise ValueError(
                f"NpdlClassifier: partial_fit got the classes [{listed(np.unique(classes))}], but "
                f"the classes of the first call are [{listed(known)}]"
            )
        self.classes_, self._multilabel = known, multilabel
        return y if multilabel else np.searchsorted(known, y)

    def _weights(self, targets: Array, weights: Array | None) -> Array | None:
        """Return the products of the weights of examples and of their classes."""
        given = self.class_weight
        if given is None:
            return weights
        if self._multilabel:
            raise ValueError(
                f"NpdlClassifier: class_weight={given!r} needs one class per example, and y has "
                f"labels; pass a loss that weights them"
            )
        factors = class_factors(given, self.classes_, targets, weights)[targets]
        return factors if weights is None else factors * weights

    def _check(self, examples: Examples) -> None:
        if not self._multilabel and (examples.targets == examples.targets[0]).all():
            raise ValueError(
                f"NpdlClassifier: expected examples of at least two classes with a weight above 0, "
                f"got only one class, {listed(self.classes_[examples.targets[:1]])}"
            )

    def _built(self, examples: Examples) -> Layer:
        """Return the network. For two classes, it has one output or two."""
        *_, of_indicators, self._of_probabilities = self._design()
        is_binary = len(self.classes_) == 2 and not self._multilabel
        self.n_outputs_ = 1 if is_binary and of_indicators else len(self.classes_)
        layer = self._layer(F.dense(self.n_outputs_))
        others = (1, 2) if is_binary else ()
        (self.n_outputs_,) = self._out_shape(layer, self.n_outputs_, *others)
        self._indicators = of_indicators or self._multilabel or self.n_outputs_ < 2
        return layer

    def _default_loss(self) -> Callable[..., Any]:
        return F.sigmoid_cross_entropy if self._indicators else F.softmax_cross_entropy

    def _encoded(self, examples: Examples) -> Examples:
        """Return the examples with the targets of the loss."""
        targets = examples.targets
        if not self._indicators:
            return examples
        if not self._multilabel:
            targets = targets[:, None] == np.arange(len(self.classes_))[-self.n_outputs_ :]
        return attrs.evolve(examples, targets=targets.astype(self._dtype()))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags


def _log(p: Array) -> Array:
    return np.log(np.maximum(p, np.finfo(p.dtype).tiny))
