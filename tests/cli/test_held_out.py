"""Held-out rows are held out, and the comparison with the baselines is what it says."""

import json

import jax
import numpy as np
import pandas as pd
import pytest
from scipy.stats import multivariate_normal
from sklearn.mixture import GaussianMixture

from gauss_flows.cli import main
from gauss_flows.cli.fit import split_rows
from gauss_flows.cli.flow_file import load_flow

N_ROWS = 250
SPLIT = split_rows(N_ROWS, 0.2, 0)
UNITS = np.array([1.0, 100.0])


def make_rows():
    """Three clusters, clearly apart."""
    rng = np.random.default_rng(3)
    centres = np.array([[0.0, 0.0], [8.0, 0.0], [0.0, 8.0]])
    return UNITS * (centres[np.arange(N_ROWS) % 3] + rng.normal(size=(N_ROWS, 2)))


def fit(folder, values):
    """Fit a small trained flow to rows: the file and the report."""
    pd.DataFrame(values, columns=["a", "b"]).to_csv(folder / "t.csv", index=False)
    arguments = ["fit", folder / "t.csv", "--output", folder / "flow.gf", "--json"]
    arguments += ["--family", "diagonal", "--n-layers", 1, "--n-components", 2, "--max-epochs", 2]
    printed = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("builtins.print", lambda *args, **_: printed.append(args[0]))
        assert main([str(argument) for argument in arguments]) == 0
    return load_flow(folder / "flow.gf"), json.loads(printed[-1])


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    return fit(tmp_path_factory.mktemp("fit"), make_rows())


@pytest.fixture(scope="module")
def fitted_to_others(tmp_path_factory):
    """The same but for the values of the held-out rows."""
    values = make_rows()
    values[SPLIT.test] = np.random.default_rng(9).normal(size=(len(SPLIT.test), 2)) * 50 * UNITS
    return fit(tmp_path_factory.mktemp("other"), values)


@pytest.fixture(scope="module")
def scores(fitted):
    """Log densities of the held-out rows under flow, Gaussian and mixture, computed here."""
    values = make_rows()
    train, test = values[SPLIT.train], values[SPLIT.test]
    gaussian = multivariate_normal(train.mean(0), np.cov(train.T, bias=True)).logpdf(test)
    centre, scale = train.mean(0), train.std(0)
    standard = (train - centre) / scale
    mixtures = [GaussianMixture(k, n_init=3, random_state=0).fit(standard) for k in range(1, 7)]
    best = min(mixtures, key=lambda mixture: mixture.bic(standard))
    least = min(mixtures, key=lambda mixture: mixture.aic(standard))
    # Otherwise a choice by AIC would go unnoticed.
    assert (best.n_components, least.n_components > 3) == (3, True)
    mixture = best.score_samples((test - centre) / scale) - np.log(scale).sum()
    with jax.enable_x64(True):
        flow = jax.tree.map(
            lambda leaf: leaf.astype(float) if hasattr(leaf, "astype") else leaf, fitted[0].flow
        )
        own = np.asarray(flow.log_prob(test))
    return own, gaussian, mixture


def test_split_parts_the_rows():
    both = np.concatenate(SPLIT)
    np.testing.assert_array_equal(np.sort(both), np.arange(N_ROWS))
    assert len(SPLIT.test) == 50
    assert not np.array_equal(SPLIT.test, split_rows(N_ROWS, 0.2, 1).test)


def test_held_out_rows_leave_no_trace_in_the_flow(fitted, fitted_to_others):
    one, other = (jax.tree.leaves(file.flow) for file, _ in (fitted, fitted_to_others))
    for mine, its in zip(one, other, strict=True):
        np.testing.assert_array_equal(mine, its)


def test_held_out_rows_leave_no_trace_in_the_report(fitted, fitted_to_others):
    for part in ("means", "standard_deviations", "recipe", "candidates", "training"):
        assert fitted[1][part] == fitted_to_others[1][part]
    assert fitted[1]["log_likelihood"] != fitted_to_others[1]["log_likelihood"]


def check_estimate(found, values):
    assert found["value"] == pytest.approx(values.mean(), abs=1e-4)
    error = values.std(ddof=1) / np.sqrt(len(values))
    assert found["standard_error"] == pytest.approx(error, rel=1e-3)


def test_baselines_are_fitted_to_the_same_rows_and_chosen_by_bic(fitted, scores):
    gaussian, mixture = fitted[1]["baselines"]
    assert (gaussian["n_components"], mixture["n_components"]) == (1, 3)
    assert mixture["name"] == "Gaussian mixture, 3 components by BIC"
    for baseline, truth in zip((gaussian, mixture), scores[1:], strict=True):
        check_estimate(baseline["log_likelihood"], truth)


def test_gains_are_those_of_the_same_rows(fitted, scores):
    own = scores[0]
    check_estimate(fitted[1]["log_likelihood"], own)
    for baseline, truth in zip(fitted[1]["baselines"], scores[1:], strict=True):
        check_estimate(baseline["gain"], own - truth)


def test_least_likely_held_out_rows_are_numbered_as_in_the_table(fitted, scores):
    found = fitted[1]["least_likely_held_out_rows"]
    assert [entry["row"] for entry in found] == list(SPLIT.test[np.argsort(scores[0])[:3]] + 1)
