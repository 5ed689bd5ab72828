"""The way from `fit` to the arithmetic is short: few calls are nested in one another."""

import sys

import numpy as np

import npdl.functional as F
from npdl.training import fit


def frames_above(name, file):
    """Return the functions from `fit` to the first call of a function of a file."""
    found = []

    def profile(frame, event, argument):
        code = frame.f_code
        if event == "call" and code.co_name == name and code.co_filename.endswith(file):
            while not found or found[-1] != "fit":
                found.append(frame.f_code.co_name)
                frame = frame.f_back
            sys.setprofile(None)

    model = F.serial(F.dense(4), F.relu(), F.dense(2))
    data = np.ones((8, 3), np.float32), np.zeros(8, int)
    sys.setprofile(profile)
    try:
        fit(model, F.softmax_cross_entropy, F.adam(0.1), data, batch_size=4, progress=False)
    finally:
        sys.setprofile(None)
    return found[::-1]


def test_a_matrix_product_is_eight_calls_below_fit():
    way = frames_above("apply", "_dense.py")
    assert way[0] == "fit"
    assert len(way) <= 8, way


def test_the_equation_of_adam_is_nine_calls_below_fit():
    way = frames_above("rule", "_adam.py")
    assert way[0] == "fit"
    assert len(way) <= 9, way
