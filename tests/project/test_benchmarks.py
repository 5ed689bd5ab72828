"""The benchmarks compare equal work: the losses of the first updates agree across libraries."""

import attrs
import pytest
from agreement import differences
from floor import matrix_products
from steps import takes_part
from workloads import WORKLOADS

NEEDS = {"compat": "npdl", "torch": "torch", "jax": "optax", "sklearn": "sklearn"}


@pytest.mark.parametrize("library", NEEDS)
@pytest.mark.parametrize("name", WORKLOADS)
def test_each_library_computes_the_same_updates(name, library):
    pytest.importorskip(NEEDS[library])
    if not takes_part(library, name) or (library, name) == ("sklearn", "mlp_tiny"):
        pytest.skip("no counterpart")
    # The benchmark models, with fewer examples and updates.
    differences(attrs.evolve(WORKLOADS[name], batch=3), [library], count=3)


def multiplications(name, batch):
    products = matrix_products(attrs.evolve(WORKLOADS[name], batch=batch))
    return sum(a.size * b.shape[-1] for a, b, _ in products)


def test_the_bound_of_an_mlp_has_3_matrix_products_per_layer():
    assert len(matrix_products(WORKLOADS["mlp_small"])) == 8
    assert multiplications("mlp_small", 3) == 3 * (2 * 64 * 64 + 3 * 64 * 64 + 3 * 64 * 10)


def test_the_bound_of_a_convolution_has_a_row_per_position():
    first, second = 24 * 24 * 25 * 6, 8 * 8 * 150 * 16
    dense = 256 * 120 + 120 * 84 + 84 * 10
    assert multiplications("cnn_lenet", 3) == 3 * (2 * first + 3 * second + 3 * dense)


def test_the_bound_of_a_recurrence_has_2_products_per_time_step():
    assert len(matrix_products(WORKLOADS["gru"])) == 64 * 2 + 1 + 2 + 3
    gates = 64 * (2 * 64 * 384 + 3 * 128 * 384)
    assert multiplications("gru", 3) == 3 * (gates + 3 * 128 * 10)


def test_the_bound_of_a_block_includes_the_layers_before():
    features = 64 * (128 * 384 + 128 * 128 + 2 * 128 * 512)
    scores = 2 * 64 * 64 * 128
    assert multiplications("attention", 3) == 3 * (3 * (features + scores) + 3 * 128 * 10)
