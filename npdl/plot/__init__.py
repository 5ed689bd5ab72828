"""Figures of training, of parameters and of models, drawn with Matplotlib (an extra).

Each function draws into the axes `ax`, by default the axes of a new figure, and returns the axes.
No function stores or shows a figure. Save a figure with ``ax.figure.savefig("curves.png")``. A
notebook shows ``ax.figure``. With pyplot, pass the axes: ``plot.learning_curves(history,
ax=plt.gca())``.

>>> from npdl import plot
>>> (ax,) = plot.learning_curves({"loss": [2.0, 1.1, 0.7], "val_loss": [2.1, 1.4, 1.2]})
>>> ax.get_ylabel()
'loss'
"""

from npdl.plot._confusion import confusion_matrix
from npdl.plot._curves import learning_curves
from npdl.plot._gradients import gradient_flow, layer_flow
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
    "layer_flow",
    "learning_curves",
]
