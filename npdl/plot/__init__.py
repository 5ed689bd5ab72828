"""Pictures of training, of parameters and of models, drawn with Matplotlib, which is an extra.

Each function draws into the axes that it is given as `ax`, or else into a new figure, and returns
the axes. Nothing is kept or shown behind your back: a picture is saved by its figure,
``ax.figure.savefig("curves.png")``, and a notebook shows ``ax.figure``. With pyplot, give the
axes: ``plot.learning_curves(history, ax=plt.gca())``.

>>> from npdl import plot
>>> (ax,) = plot.learning_curves({"loss": [2.0, 1.1, 0.7], "val_loss": [2.1, 1.4, 1.2]})
>>> ax.get_ylabel()
'loss'
"""

from npdl.plot._confusion import confusion_matrix
from npdl.plot._curves import learning_curves
from npdl.plot._gradients import gradient_flow
from npdl.plot._graph import graph
from npdl.plot._images import feature_maps, filters
from npdl.plot._projection import embedding

__all__ = [
    "confusion_matrix",
    "embedding",
    "feature_maps",
    "filters",
    "gradient_flow",
    "graph",
    "learning_curves",
]
