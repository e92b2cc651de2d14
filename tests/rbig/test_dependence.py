"""Linear relations between columns: found where they hold, and not for one far row."""

import warnings

import numpy as np
import pytest

from gauss_flows.rbig.checks import check_table
from gauss_flows.rbig.dependence import closest_relation

N = 2000


def with_rows(table, *rows):
    return np.concatenate([table, rows])


def normal(seed, d, n=N):
    return np.random.default_rng([seed, d]).normal(size=(n, d))


@pytest.mark.parametrize("far", [1e3, 1e5, 1e6, 1e7, 1e9, 1e15, 1e100, 1e300])
@pytest.mark.parametrize("d", [2, 5])
def test_a_far_row_relates_no_columns(far, d):
    x = normal(0, d)
    alternating = far * (-1.0) ** np.arange(d)
    tables = [
        with_rows(x, np.full(d, far)),
        with_rows(x, alternating),
        with_rows(x, np.full(d, far), 2 * alternating, far * np.arange(1.0, d + 1)),
        with_rows(1e6 + 1e-3 * x, np.full(d, far)),
        with_rows(x * 10.0 ** np.arange(d), far * 10.0 ** np.arange(d)),
        # Half of the rows hold one value.
        with_rows(np.where(x > 0, x, 0.0), np.full(d, far)),
    ]
    for table in tables:
        relation = closest_relation(table)
        assert not relation.is_near, relation
        assert not relation.is_exact
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_table(tables[0], n_components=8)


def test_heavy_tails_relate_no_columns():
    for seed in range(5):
        x = np.random.default_rng(seed).standard_cauchy((N, 4))
        assert not closest_relation(np.sign(x) * np.abs(x) ** 3).is_near


RELATIONS = {
    "sum": (lambda a, b: a + b, [0, 1, 2]),
    "affine": (lambda a, b: a - 2 * b + 1, [0, 1, 2]),
    "other units": (lambda a, b: 2.54 * b - 40, [1, 2]),
    "doubled": (lambda a, b: 2 * a, [0, 2]),
}
LAWS = {
    "normal": lambda rng: rng.normal(size=(N, 2)),
    "cauchy": lambda rng: rng.standard_cauchy((N, 2)),
    "outlier": lambda rng: with_rows(rng.normal(size=(N, 2)), [1e9, 1e9]),
    "outlier in one": lambda rng: with_rows(rng.normal(size=(N, 2)), [1e9, 0.5]),
    "sparse": lambda rng: rng.normal(size=(N, 2)) * (rng.random((N, 2)) < 0.3),
    "far from zero": lambda rng: 1e3 + rng.normal(size=(N, 2)),
}


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("name", RELATIONS)
def test_relations_are_found_and_named(name, law):
    formula, columns = RELATIONS[name]
    pair = LAWS[law](np.random.default_rng(3))
    table = np.column_stack([pair, formula(*pair.T), normal(4, 1, len(pair))])
    relation = closest_relation(table)
    assert relation.is_exact, relation
    assert relation.columns == columns
    with pytest.raises(ValueError, match="none of which follows from the others; got a linear"):
        check_table(table)


def test_a_relation_with_one_exception_is_none():
    a, b = normal(5, 2).T
    table = np.stack([a, b, a + b], axis=1)
    table[7, 2] += 1.0
    assert not closest_relation(table).is_near


def test_what_nearly_holds_is_told_apart_from_what_holds():
    a, b, noise = normal(6, 3).T
    for pair in (np.stack([a, b], 1), with_rows(np.stack([a, b], 1), [1e9, -1e9])):
        c = pair @ [1.0, 1.0]
        c[: len(noise)] += 1e-5 * noise
        relation = closest_relation(np.column_stack([pair, c]))
        assert relation.is_near
        assert not relation.is_exact
        assert relation.columns == [0, 1, 2]
        assert 1e-12 < relation.share < 1e-9
