"""fit → info → score → sample on small tables, with what each file and number must be."""

import json

import numpy as np
import pandas as pd
import pytest
from scipy.stats import multivariate_normal

from gauss_flows.cli import main
from gauss_flows.cli.fit import split_rows
from gauss_flows.cli.flow_file import load_flow
from gauss_flows.cli.tables import read_table

SMALL = ("--family", "diagonal", "--n-layers", "2", "--n-components", "2", "--max-epochs", "3")
N_ROWS = 240


def told(capsys, *arguments):
    """Run a command that must go well, and return what it printed."""
    assert main([str(argument) for argument in arguments]) == 0
    return capsys.readouterr().out


def make_rows():
    """Rows with a bend, a large offset and a small scale."""
    rng = np.random.default_rng(0)
    a = rng.normal(size=N_ROWS)
    b = 1e6 + 10 * rng.normal(size=N_ROWS)
    c = 1e-6 * (a**2 + 0.5 * rng.normal(size=N_ROWS))
    return pd.DataFrame({"a": a, "b, big": b, "c": c})


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    """One small fit: its folder and its report."""
    folder = tmp_path_factory.mktemp("fit")
    make_rows().to_csv(folder / "t.csv", index=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("builtins.print", lambda *args, **_: printed.append(args[0]))
        printed = []
        arguments = ["fit", folder / "t.csv", "--output", folder / "flow.gf", *SMALL, "--json"]
        arguments += ["--picture", folder / "fit.png"]
        assert main([str(argument) for argument in arguments]) == 0
    return folder, json.loads(printed[-1])


def test_fit_leaves_a_flow_and_a_picture(fitted):
    folder, _ = fitted
    assert sorted(path.name for path in folder.iterdir()) == ["fit.png", "flow.gf", "t.csv"]
    assert (folder / "fit.png").read_bytes().startswith(b"\x89PNG")


def test_fit_reports_what_it_did(fitted):
    _, report = fitted
    assert report["n_rows"] == N_ROWS
    assert report["n_train"] + report["n_test"] == N_ROWS
    assert report["columns"] == ["a", "b, big", "c"]
    assert report["family"] == "diagonal"
    assert report["n_blocks"] == 2
    assert report["training"]["n_epochs"] == 3
    names = [baseline["name"] for baseline in report["baselines"]]
    assert names[0] == "Gaussian, full covariance"
    assert names[1].startswith("Gaussian mixture, ")


def test_gaussian_baseline_is_the_density_of_the_fitted_gaussian(fitted):
    _, report = fitted
    split = split_rows(N_ROWS, 0.2, 0)
    # In units near one, as the covariance of these columns has no inverse in double precision.
    values = make_rows().to_numpy() / [1.0, 10.0, 1e-6]
    train, test = values[split.train], values[split.test]
    truth = multivariate_normal(train.mean(0), np.cov(train.T, bias=True)).logpdf(test)
    truth -= np.log([1.0, 10.0, 1e-6]).sum()
    baseline = report["baselines"][0]["log_likelihood"]
    assert baseline["value"] == pytest.approx(truth.mean(), abs=1e-8)
    error = truth.std(ddof=1) / np.sqrt(len(truth))
    assert baseline["standard_error"] == pytest.approx(error, rel=1e-6)


def test_score_of_the_held_out_rows_is_the_fit_s_own(fitted, tmp_path, capsys):
    folder, report = fitted
    split = split_rows(N_ROWS, 0.2, 0)
    make_rows().iloc[split.test].to_parquet(tmp_path / "held_out.parquet")
    out = told(capsys, "score", folder / "flow.gf", tmp_path / "held_out.parquet", "--json")
    score = json.loads(out)
    for part in ("value", "standard_error"):
        assert score["mean_log_density"][part] == pytest.approx(
            report["log_likelihood"][part], abs=1e-9
        )
    gain = score["mean_log_density"]["value"] - report["baselines"][1]["log_likelihood"]["value"]
    assert report["baselines"][1]["gain"]["value"] == pytest.approx(gain, abs=1e-9)


def test_density_is_normalised_in_the_table_s_units(tmp_path, capsys):
    x = np.random.default_rng(1).gamma(3.0, size=(200, 1)) * 1e4
    np.save(tmp_path / "t.npy", x)
    arguments = ("fit", tmp_path / "t.npy", "--output", tmp_path / "flow.gf", "--family", "rbig")
    told(capsys, *arguments, "--n-components", 3)
    grid = np.linspace(-3e5, 6e5, 20001)[:, None]
    np.save(tmp_path / "grid.npy", grid)
    told(
        capsys, "score", tmp_path / "flow.gf", tmp_path / "grid.npy",
        "--output", tmp_path / "scores.npy",
    )  # fmt: skip
    density = np.exp(np.load(tmp_path / "scores.npy")[:, 0])
    assert np.trapezoid(density, grid[:, 0]) == pytest.approx(1.0, abs=1e-6)


def test_score_matches_columns_by_name(fitted, tmp_path, capsys):
    folder, _ = fitted
    frame = make_rows()
    told(capsys, "score", folder / "flow.gf", folder / "t.csv", "--output", tmp_path / "s.csv")
    turned = frame[["c", "b, big", "a"]].assign(extra="text")
    turned.to_csv(tmp_path / "turned.csv", index=False)
    told(
        capsys, "score", folder / "flow.gf", tmp_path / "turned.csv",
        "--output", tmp_path / "s2.csv",
    )  # fmt: skip
    one, other = (read_table(str(tmp_path / name)).values for name in ("s.csv", "s2.csv"))
    np.testing.assert_array_equal(one, other)


def test_score_of_a_missing_column_or_a_wrong_width(fitted, tmp_path, capsys):
    folder, _ = fitted
    make_rows().drop(columns="c").to_csv(tmp_path / "narrow.csv", index=False)
    assert main(["score", str(folder / "flow.gf"), str(tmp_path / "narrow.csv")]) == 2
    assert "lacks 'c', which" in capsys.readouterr().err
    np.save(tmp_path / "wide.npy", np.zeros((3, 4)))
    assert main(["score", str(folder / "flow.gf"), str(tmp_path / "wide.npy")]) == 2
    assert "has 4 columns" in capsys.readouterr().err


def test_score_of_a_row_that_is_not_finite(fitted, tmp_path, capsys):
    folder, _ = fitted
    frame = make_rows()
    frame.loc[7, "b, big"] = np.nan
    frame.to_csv(tmp_path / "t.csv", index=False)
    assert main(["score", str(folder / "flow.gf"), str(tmp_path / "t.csv")]) == 2
    assert "column 'b, big'" in (err := capsys.readouterr().err)
    assert "in row 8" in err


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".npy"])
def test_sample_is_in_the_table_s_units_and_repeats_with_its_seed(fitted, tmp_path, capsys, suffix):
    folder, _ = fitted
    paths = [tmp_path / f"{name}{suffix}" for name in ("one", "two", "other")]
    for path, seed in zip(paths, (4, 4, 5), strict=True):
        told(capsys, "sample", folder / "flow.gf", 400, "--output", path, "--seed", seed)
    one, two, other = (read_table(str(path)) for path in paths)
    np.testing.assert_array_equal(one.values, two.values)
    assert not np.array_equal(one.values, other.values)
    data = make_rows().to_numpy()
    error = data.std(0) * np.sqrt(1 / 400 + 1 / N_ROWS)
    assert np.all(np.abs(one.values.mean(0) - data.mean(0)) < 6 * error)
    np.testing.assert_allclose(one.values.std(0), data.std(0), rtol=0.3)
    assert one.columns == (("x0", "x1", "x2") if suffix == ".npy" else ("a", "b, big", "c"))


def test_info(fitted, capsys):
    folder, report = fitted
    said = json.loads(told(capsys, "info", folder / "flow.gf", "--json"))
    assert said["columns"] == report["columns"]
    assert said["layers"] == ["ActNorm", *["HouseholderRotation", "MixtureGaussianCDF"] * 2]
    assert said["fit"]["log_likelihood"] == report["log_likelihood"]
    text = told(capsys, "info", folder / "flow.gf")
    assert "ActNorm, 2 × (HouseholderRotation, MixtureGaussianCDF)" in text
    assert f"{report['n_parameters']}" in text


def test_the_file_alone_gives_densities_in_python(fitted):
    folder, _ = fitted
    file = load_flow(folder / "flow.gf")
    assert file.flow.shape == (3,)
    assert file.summary["means"] == pytest.approx(
        make_rows().to_numpy()[split_rows(N_ROWS, 0.2, 0).train].mean(0).tolist()
    )


@pytest.mark.filterwarnings("error")
def test_rows_beyond_double_precision_are_told(fitted, tmp_path, capsys):
    folder, _ = fitted
    frame = make_rows().iloc[:4]
    frame.iloc[1, 0], frame.iloc[3, 2] = 1e300, -1e308
    frame.to_csv(tmp_path / "t.csv", index=False)
    arguments = ["score", str(folder / "flow.gf"), str(tmp_path / "t.csv")]
    assert main([*arguments, "--json"]) == 0
    captured = capsys.readouterr()
    assert "2 rows of" in captured.err
    assert "no finite log density, the first is row 2" in captured.err
    found = json.loads(captured.out)["log_density"]
    assert [value is None for value in found] == [False, True, False, True]
    text = told(capsys, *arguments)
    assert "log density -inf ± ? nats a row" in text
    assert "least likely: row 2 (-inf), row 4 (-inf), row " in text


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("unit", [1e200, 1e-200])
def test_one_column_in_an_unusual_unit(tmp_path, capsys, unit):
    """With one row held out, and with the grammar of one."""
    np.save(tmp_path / "t.npy", unit * np.random.default_rng(0).normal(size=(9, 1)))
    arguments = ["fit", tmp_path / "t.npy", "--output", tmp_path / "flow.gf", "--family", "rbig"]
    arguments += ["--n-layers", 1, "--n-components", 1, "--test-fraction", 0.1]
    text = told(capsys, *arguments, "--picture", tmp_path / "fit.svg")
    assert "9 rows, 1 column; 8 rows to fit, 1 held out" in text
    assert "of 1 block (marginals first, 1 component)" in text
    summary = load_flow(tmp_path / "flow.gf").summary
    train = np.load(tmp_path / "t.npy")[split_rows(9, 0.1, 0).train] / unit
    assert summary["standard_deviations"] == pytest.approx([unit * train.std()])
    assert "saved" in (said := told(capsys, "sample", tmp_path / "flow.gf", 1, "--output",
                                    tmp_path / "x.csv"))  # fmt: skip
    assert "1 row, 1 column" in said
    info = told(capsys, "info", tmp_path / "flow.gf")
    # A flow of one component and one column is the Gaussian.
    assert "0.00 ± ? over: Gaussian, full covariance" in info
    assert "-0.00" not in info
    np.save(tmp_path / "wide.npy", np.zeros((3, 2)))
    assert main(["score", str(tmp_path / "flow.gf"), str(tmp_path / "wide.npy")]) == 2
    np.save(tmp_path / "one.npy", np.zeros((1, 1)))
    assert "1 row, log density" in told(capsys, "score", tmp_path / "flow.gf", tmp_path / "one.npy")


def test_far_outliers_are_no_linear_relation_and_leave_the_bulk_its_digits(tmp_path, capsys):
    values = np.random.default_rng(0).normal(size=(240, 2))
    values[[3, 50, 99]] = 1e9
    np.save(tmp_path / "t.npy", values)
    arguments = ["fit", tmp_path / "t.npy", "--output", tmp_path / "flow.gf", "--json"]
    arguments += ["--family", "rbig", "--n-layers", 1, "--n-components", 2]
    report = json.loads(told(capsys, *arguments))
    # The bulk has the entropy of a standard normal, 2.84 nats; a Gaussian has to span the rest.
    assert -3.4 < report["log_likelihood"]["value"] < -2.4
    gaussian, mixture = report["baselines"]
    assert gaussian["gain"]["value"] > 10
    assert abs(mixture["gain"]["value"]) < 0.3


def test_damaged_file_is_refused(fitted, tmp_path, capsys):
    folder, _ = fitted
    content = (folder / "flow.gf").read_bytes()
    (tmp_path / "half.gf").write_bytes(content[: len(content) // 2])
    assert main(["info", str(tmp_path / "half.gf")]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_interrupted_fit_leaves_the_old_flow(fitted, tmp_path, capsys, monkeypatch):
    path = tmp_path / "flow.gf"
    good = (fitted[0] / "flow.gf").read_bytes()
    path.write_bytes(good)

    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("os.fsync", interrupt)
    np.save(tmp_path / "t.npy", np.random.default_rng(0).normal(size=(60, 1)))
    arguments = ("fit", tmp_path / "t.npy", "--output", path, "--family", "rbig")
    options = ("--n-layers", "1", "--n-components", "2")
    assert main([str(argument) for argument in (*arguments, *options)]) == 130
    assert path.read_bytes() == good
    assert sorted(p.name for p in tmp_path.iterdir()) == ["flow.gf", "t.npy"]


@pytest.mark.parametrize(
    "family", ["auto", "mixture", "mixture-coupling", "spline-coupling", "affine-coupling"]
)
def test_every_family_fits_and_scores(tmp_path, capsys, family):
    arguments = ["fit", "sklearn:iris", "--columns", "sepal length (cm),petal width (cm)"]
    arguments += ["--output", tmp_path / "flow.gf", "--family", family, "--json"]
    arguments += [
        "--n-layers",
        "1",
        "--n-components",
        "2",
        "--max-epochs",
        "2",
        "--batch-size",
        "64",
    ]
    report = json.loads(told(capsys, *arguments, "--learning-rate", "1e-4"))
    assert np.isfinite(report["log_likelihood"]["value"])
    told(capsys, "sample", tmp_path / "flow.gf", 5, "--output", tmp_path / "x.npy")
    assert np.isfinite(np.load(tmp_path / "x.npy")).all()


def test_fit_prints_its_report(tmp_path, capsys):
    arguments = ("fit", "sklearn:iris", "--output", tmp_path / "x.gf", "--family", "rbig")
    arguments = (*arguments, "--n-layers", "1", "--n-components", "2")
    text = told(capsys, *arguments)
    for phrase in (
        "150 rows, 4 columns",
        "this flow",
        "full covariance",
        "by BIC",
        "the flow gains",
    ):
        assert phrase in text
    assert told(capsys, *arguments, "--quiet") == ""
