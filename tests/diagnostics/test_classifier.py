"""The classifier two-sample test against the area that the best classifier has."""

import numpy as np
import pytest
from scipy.stats import kstest, norm
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression, Perceptron
from sklearn.metrics import roc_auc_score

from gauss_flows.diagnostics import classifier_two_sample_test, draw_classifier_two_sample_test
from gauss_flows.diagnostics.classifier import _fold

LINEAR = LinearDiscriminantAnalysis()
# Of two samples, what moves them two standard deviations apart.
APART = np.array([[[2.0]], [[0.0]]])


@pytest.mark.parametrize("shift", [0.3, 1.0, 2.5])
def test_area_between_shifted_normals(shift):
    """The best score is linear, and has the area Φ(δ / √2)."""
    truth = norm.cdf(shift / np.sqrt(2))
    rng = np.random.default_rng(0)
    found = []
    for seed in range(40):
        a, b = rng.normal(size=(2, 400, 2))
        a[:, 0] += shift
        test = classifier_two_sample_test(a, b, classifier=LINEAR, random_state=seed)
        found.append(test.auc)
    values, errors = np.array(found).T
    assert values.mean() == pytest.approx(truth, abs=0.01)
    assert 0.75 < errors.mean() / values.std() < 1.35
    assert np.mean(np.abs(values - truth) < 1.96 * errors) > 0.85


def test_default_classifier_sees_a_bend_that_no_line_does():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 500, 2))
    a[:, 1] = (a[:, 1] + a[:, 0] ** 2 - 1) / np.sqrt(3)
    assert classifier_two_sample_test(a, b, classifier=LINEAR).auc.value < 0.56
    trees = classifier_two_sample_test(a, b)
    assert trees.auc.value > 0.65
    assert trees.p_value < 1e-6


@pytest.mark.parametrize("d", [2, 6])
def test_p_values_do_not_claim_what_is_chance(d):
    rng = np.random.default_rng(d)
    p_values = np.array(
        [
            classifier_two_sample_test(
                *rng.normal(size=(2, 80, d)), classifier=LINEAR, random_state=seed
            ).p_value
            for seed in range(200)
        ]
    )
    assert np.mean(p_values < 0.05) < 0.05 + 2 * np.sqrt(0.05 * 0.95 / 200)
    assert np.mean(p_values < 0.5) == pytest.approx(0.5, abs=0.12)


def test_p_values_of_shuffles_are_uniform():
    rng = np.random.default_rng(0)
    p_values = [
        classifier_two_sample_test(
            *rng.normal(size=(2, 20, 1)), classifier=LINEAR, n_permutations=19, n_folds=2
        ).p_value
        for _ in range(60)
    ]
    assert kstest(p_values, "uniform").pvalue > 1e-3
    a, b = APART / 2 + rng.normal(size=(2, 60, 2))
    test = classifier_two_sample_test(a, b, classifier=LINEAR, n_permutations=39)
    assert test.p_value == 1 / 40


def test_fold_is_that_of_scikit_learn_with_ties():
    rng = np.random.default_rng(0)
    score = rng.integers(0, 6, size=60).astype(float)
    is_first = rng.uniform(size=60) < 0.4
    fold = _fold(score, is_first)
    assert fold.auc == pytest.approx(roc_auc_score(is_first, score))
    assert np.trapezoid(fold.true, fold.false) == pytest.approx(fold.auc)
    shuffled = [_fold(score, rng.permutation(is_first)).auc for _ in range(4000)]
    assert fold.chance == pytest.approx(np.var(shuffled), rel=0.1)


def test_classifiers_with_a_decision_function_only_serve_too():
    a, b = APART + np.random.default_rng(0).normal(size=(2, 200, 1))
    test = classifier_two_sample_test(a, b, classifier=Perceptron())
    assert test.auc.value == pytest.approx(norm.cdf(np.sqrt(2)), abs=0.05)


def test_sizes_may_differ_and_many_rows_are_drawn_from():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(900, 2)), rng.normal(size=(300, 2)) + 1
    test = classifier_two_sample_test(a, b, classifier=LogisticRegression(), max_rows=500)
    assert test.n_rows == (500, 300)
    assert test.auc.value == pytest.approx(norm.cdf(1.0), abs=0.05)


def test_bad_input_is_named():
    a = np.zeros((20, 2))
    with pytest.raises(ValueError, match="Expected b to have 2 columns; got 3"):
        classifier_two_sample_test(a, np.zeros((20, 3)))
    with pytest.raises(ValueError, match="got 5 folds and 9 rows"):
        classifier_two_sample_test(a, a[:9])
    with pytest.raises(ValueError, match="got nan in row 0, column 0"):
        classifier_two_sample_test(a * np.nan, a)


def test_picture_has_the_curve():
    from matplotlib.figure import Figure

    a, b = APART + np.random.default_rng(0).normal(size=(2, 100, 1))
    test = classifier_two_sample_test(a, b, classifier=LINEAR)
    axes = draw_classifier_two_sample_test(test, Figure().subplots())
    x, y = axes.lines[0].get_data()
    assert np.trapezoid(y, x) == pytest.approx(test.auc.value, abs=0.02)
