"""Outliers among the rows that a detector is fitted to."""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from gauss_flows.columns.tables import read_array
from gauss_flows.estimators import FlowDensity, FlowOutlierDetector
from gauss_flows.estimators import outliers as module
from gauss_flows.estimators.base import FlowEstimator
from gauss_flows.selection import interrupts

SHARE = 0.15
N_CLEAN, N_OTHERS, N_DIMS = 153, 27, 8


@pytest.fixture(scope="module")
def contaminated():
    """Few rows of a normal law in many columns, and others on a box about them."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(N_CLEAN, N_DIMS)) @ rng.normal(size=(N_DIMS, N_DIMS))
    others = rng.uniform(x.min(0), x.max(0), (N_OTHERS, N_DIMS))
    return np.concatenate([x, others]), np.arange(N_CLEAN + N_OTHERS) < N_CLEAN


@pytest.fixture(scope="module")
def detector(contaminated):
    return FlowOutlierDetector("gaussian", contamination=SHARE).fit(contaminated[0])


def area(scores, is_clean):
    return roc_auc_score(is_clean, scores)


def test_outliers_do_not_shape_the_density_that_ranks_them(contaminated, detector):
    x, is_clean = contaminated
    plain = FlowDensity("gaussian").fit(x)
    truth = FlowDensity("gaussian").fit(x[is_clean])
    of_plain, of_truth = (area(fit.score_samples(x), is_clean) for fit in (plain, truth))
    found = area(detector.score_samples(x), is_clean)
    assert of_plain < of_truth - 0.01  # otherwise there is nothing to gain
    assert found > of_plain + 0.5 * (of_truth - of_plain)


def test_as_many_rows_as_asked_for_are_called_outliers(contaminated, detector):
    x, is_clean = contaminated
    called = detector.predict(x) == -1
    assert called.sum() == int(SHARE * len(x))
    np.testing.assert_array_equal(called, detector.decision_function(x) < 0)
    assert (called & is_clean).sum() < 0.3 * called.sum()


def test_rows_are_scored_by_fits_that_have_not_seen_them(contaminated, detector):
    x, _ = contaminated
    alone = np.concatenate([x, [[1e3] * N_DIMS]])
    fresh = FlowOutlierDetector("gaussian", contamination=SHARE).fit(alone)
    scores = fresh._scores_of_others(read_array(alone, "X"), alone)
    seen = FlowDensity("gaussian").fit(alone).score_samples(alone)
    assert scores.shape == (len(alone),)
    assert scores.argmin() == len(x)
    assert scores[-1] < seen[-1] - 50  # a Gaussian that has seen it has grown to hold it


def test_every_row_s_score_is_that_of_a_fit_to_others(contaminated, detector, monkeypatch):
    x, _ = contaminated
    fitted_to = []

    class Part:
        """Knows a row where it has been fitted to it."""

        def __init__(self, rows):
            fitted_to.append(rows)

        def log_density_of(self, table):
            known = (x[:, None, 0] == fitted_to[-1][None, :, 0]).any(1)
            return np.where(known, 1.0, -1.0)

    monkeypatch.setattr(detector, "_another", lambda rows: Part(rows))
    scores = detector._scores_of_others(read_array(x, "X"), x)
    np.testing.assert_array_equal(scores, -np.ones(len(x)))
    assert all(len(rows) == 120 for rows in fitted_to)


def test_an_interrupt_keeps_the_first_closed_form(contaminated, monkeypatch, capsys):
    x, _ = contaminated
    coded = FlowEstimator._fit_coded

    def interrupted(self, rows, settings):
        coded(self, rows, settings)
        if len(rows) < len(x):
            self.history_ = {"stopped": "interrupted: this is the best so far."}

    monkeypatch.setattr(FlowEstimator, "_fit_coded", interrupted)
    detector = FlowOutlierDetector("gaussian", contamination=SHARE, verbose=True).fit(x)
    assert "interrupted: staying with the first closed form" in capsys.readouterr().err
    assert interrupts.was_interrupted(detector.history_)
    expected = FlowDensity("gaussian").fit(x).score_samples(x)
    np.testing.assert_allclose(detector.score_samples(x), expected)


def test_an_interrupt_of_the_last_fit_keeps_what_it_has(contaminated, monkeypatch):
    x, _ = contaminated
    coded = FlowEstimator._fit_coded

    def interrupted(self, rows, settings):
        coded(self, rows, settings)
        if not settings.is_contaminated:
            self.history_ = {"stopped": "interrupted: this is the best so far."}

    monkeypatch.setattr(FlowEstimator, "_fit_coded", interrupted)
    detector = FlowOutlierDetector("gaussian", contamination=SHARE).fit(x)
    monkeypatch.undo()
    assert interrupts.was_interrupted(detector.history_)
    expected = FlowOutlierDetector("gaussian", contamination=SHARE).fit(x).score_samples(x)
    np.testing.assert_allclose(detector.score_samples(x), expected)


def test_a_column_that_is_constant_among_the_rows_that_choose(contaminated, monkeypatch, capsys):
    x, _ = contaminated
    monkeypatch.setattr(module, "_MOST_CROSS_FITTED", len(x) // 2)
    monkeypatch.setattr(module, "_ROWS_THAT_CHOOSE", len(x) // 2)
    rare = np.zeros(len(x))
    # Only among the rows that the first fit does not see.
    rare[np.random.default_rng(0).permutation(len(x))[len(x) // 2 :][:20]] = np.arange(1, 21)
    with pytest.warns(UserWarning, match="atoms"):
        detector = FlowOutlierDetector("gaussian", contamination=SHARE, verbose=True).fit(
            np.column_stack([x, rare])
        )
    assert "staying with all rows" in capsys.readouterr().err
    assert np.isfinite(detector.score_samples(np.column_stack([x, rare]))).all()


def test_of_many_rows_a_fit_to_some_chooses(contaminated, monkeypatch):
    x, _ = contaminated
    n_some = len(x) // 2
    monkeypatch.setattr(module, "_MOST_CROSS_FITTED", n_some + 10)
    monkeypatch.setattr(module, "_ROWS_THAT_CHOOSE", n_some)
    once = FlowOutlierDetector("gaussian", contamination=SHARE).fit(x)
    some = x[np.random.default_rng(0).permutation(len(x))[:n_some]]
    first = FlowDensity("gaussian").fit(some).score_samples(x)
    kept = np.sort(np.argsort(first)[int(SHARE * len(x)) :])
    expected = FlowDensity("gaussian").fit(x[kept]).score_samples(x)
    np.testing.assert_allclose(once.score_samples(x), expected)


def test_a_frame_and_a_list_are_fitted_as_an_array_is(contaminated, detector):
    x, _ = contaminated
    frame = pd.DataFrame(x, columns=[f"c{i}" for i in range(N_DIMS)])
    of_frame = FlowOutlierDetector("gaussian", contamination=SHARE).fit(frame)
    of_list = FlowOutlierDetector("gaussian", contamination=SHARE).fit(x.tolist())
    assert list(of_frame.feature_names_in_) == list(frame.columns)
    expected = detector.score_samples(x)
    np.testing.assert_allclose(of_frame.score_samples(frame), expected)
    np.testing.assert_allclose(of_list.score_samples(x), expected)


def test_a_table_with_gaps_and_a_rare_category_has_outliers_too():
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.normal(size=(120, 2)), columns=["a", "b"])
    frame["kind"] = pd.Categorical(["x", "y"] * 59 + ["rare"] * 2, categories=["x", "y", "rare"])
    frame.loc[3, "a"] = np.nan
    frame.loc[118:, ["a", "b"]] = 30.0, -30.0
    detector = FlowOutlierDetector("gaussian", contamination=0.05).fit(frame)
    assert set(detector.predict(frame.iloc[118:])) == {-1}
    assert (detector.predict(frame) == -1).sum() <= 6


def test_all_rows_count_where_the_others_are_too_few(capsys):
    x = np.random.default_rng(0).normal(size=(6, 3))
    detector = FlowOutlierDetector("gaussian", contamination=0.4, verbose=True).fit(x)
    assert "staying with all rows" in capsys.readouterr().err
    expected = FlowDensity("gaussian").fit(x).score_samples(x)
    np.testing.assert_allclose(detector.score_samples(x), expected)


def test_what_is_trained_is_trained_once_on_the_rows_left(contaminated, monkeypatch):
    x, _ = contaminated
    asked, fit = [], FlowEstimator._fit_coded

    def recorded(self, rows, settings):
        asked.append((len(rows), settings.family, settings.max_epochs))
        fit(self, rows, settings)

    monkeypatch.setattr(FlowEstimator, "_fit_coded", recorded)
    detector = FlowOutlierDetector("diagonal", contamination=SHARE, max_epochs=2, n_layers=1).fit(x)
    assert [epochs for *_, epochs in asked] == [0] * (len(asked) - 1) + [2]
    assert asked[-1] == (len(x) - int(SHARE * len(x)), "diagonal", 2)
    assert detector.history_["train"]


@pytest.mark.parametrize("contamination", [0.0, 0.6, -0.1, "auto", None])
def test_a_share_that_is_none_is_refused(contamination):
    x = np.random.default_rng(0).normal(size=(20, 2))
    with pytest.raises(ValueError, match=r"Expected contamination in \(0, 0.5\]; got"):
        FlowOutlierDetector("gaussian", contamination=contamination).fit(x)


@pytest.mark.parametrize("unit", [1e-3, 1.0, 1e3])
def test_rows_with_gaps_are_judged_beside_whole_ones_in_any_unit(unit):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(600, 1)) + 0.6 * rng.normal(size=(600, 8))
    outliers, gappy = rng.choice(600, 30, False), rng.choice(600, 60, False)
    x[outliers] = rng.uniform(-8, 8, (30, 8))
    x[gappy, 3:] = np.nan
    detector = FlowOutlierDetector("gaussian", contamination=0.05).fit(unit * x)
    is_outlier = np.isin(np.arange(600), outliers)
    called = detector.predict(unit * x) == -1
    assert (called & is_outlier).sum() >= 27
    assert (called[gappy] & is_outlier[gappy]).sum() >= 2
    assert detector.predict(np.full((1, 8), np.nan)) == 1


def test_gaps_are_filled_in_the_table_s_own_kind():
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"mass": rng.lognormal(size=200), "kind": rng.choice(["u", "v"], 200)})
    frame.loc[::7, "mass"], frame.loc[::11, "kind"] = np.nan, None
    detector = FlowOutlierDetector("mixture", support={"mass": "positive"}).fit(frame)
    whole = detector.completed(detector._table(frame, reset=False))
    mass, kind = whole.columns
    assert (mass > 0).all()
    assert set(kind) == {"u", "v"}
    known = frame["mass"].notna().to_numpy(), frame["kind"].notna().to_numpy()
    np.testing.assert_array_equal(mass[known[0]], frame["mass"][known[0]])
    np.testing.assert_array_equal(kind[known[1]], frame["kind"][known[1]])
    assert np.isfinite(detector.score_samples(frame)).all()
