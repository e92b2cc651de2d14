"""Rows in parts of few sizes."""

import jax.numpy as jnp
import numpy as np
import pytest

from gauss_flows.numerics.in_parts import in_parts


@pytest.mark.parametrize("n", [0, 1, 255, 256, 257, 16_384, 16_385, 40_000])
def test_all_rows_come_back_in_order(n):
    x, y = np.arange(2.0 * n).reshape(n, 2), np.arange(n, dtype=np.float32)
    sums, doubled = in_parts(lambda rows, more: (rows.sum(1) + more, 2 * rows), x, y)
    np.testing.assert_array_equal(sums, (x.sum(1) + y).astype(np.float32))
    np.testing.assert_array_equal(doubled, (2 * x).astype(np.float32))


def test_few_sizes_serve_all_numbers_of_rows():
    sizes = []

    def noting(rows):
        sizes.append(len(rows))
        return rows

    for n in (3, 100, 256, 300, 500, 16_000, 20_000, 50_000):
        in_parts(noting, np.zeros((n, 1)))
    assert sizes == [256] * 3 + [512] * 2 + [16_384] * (1 + 2 + 4)


def test_what_fills_a_part_is_a_row_that_was_there():
    """So that a row that the function cannot take is never made up."""
    seen = []
    in_parts(lambda rows: seen.append(rows) or rows, np.full((3, 2), 7.0))
    assert bool(jnp.all(seen[0] == 7.0))
