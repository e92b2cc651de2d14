"""The data of the density comparison: training and test rows of every split."""

from typing import NamedTuple

import jax
import jax.random as jr
import numpy as np
from numpy.typing import NDArray
from scipy.fft import dctn
from sklearn import datasets as tables
from sklearn.model_selection import KFold

from gauss_flows import datasets as densities

Rows = NDArray[np.float64]

DENSITIES = (
    "Checkerboard",
    "EightGaussians",
    "Pinwheel",
    "Rings",
    "Spiral",
    "TwoGaussians",
    "TwoMoons",
    "UniformSquare",
    "W",
    "WU",
)
_N_TRAIN, _N_TEST = 5_000, 10_000
_N_SPLITS = 5
_N_PATCHES, _SIDE = 100_000, 8


class Split(NamedTuple):
    """Rows to fit to, rows to judge by, and the true log density of those where it is known."""

    train: Rows
    test: Rows
    truth: NDArray[np.float64] | None


def split(name: str, index: int, n_rows: int | None) -> Split:
    """One of the five splits of one data set.

    A density is drawn afresh for every split. The rows of a table fall into five folds at random,
    each of which is the test rows once.

    Args:
        name: A density of `gauss_flows.datasets`, or a table of this file.
        index: Which split, 0 to 4.
        n_rows: Training rows of a density, or rows of a table, where they are to be fewer.

    Returns:
        The same rows whoever asks.
    """
    if name in DENSITIES:
        density = getattr(densities, name)()
        n = min(n_rows or _N_TRAIN, _N_TRAIN)
        with jax.enable_x64(True):
            x = density.sample(jr.key(1000 + index), n + _N_TEST)
            truth = np.asarray(density.log_prob(x[n:]))
        x = np.asarray(x)
        return Split(x[:n], x[n:], truth)
    x = TABLES[name]()
    if n_rows and n_rows < len(x):
        x = x[np.random.default_rng(0).permutation(len(x))[:n_rows]]
    train, test = list(KFold(_N_SPLITS, shuffle=True, random_state=0).split(x))[index]
    return Split(x[train], x[test], None)


def wine() -> Rows:
    """The 13 columns of wine, each in units of its deviation."""
    return _units(tables.load_wine().data)


def breast_cancer() -> Rows:
    """The 30 columns of breast cancer, each in units of its deviation."""
    return _units(tables.load_breast_cancer().data)


def diabetes() -> Rows:
    """Nine columns of diabetes, each in units of its deviation.

    Sex, which is two atoms, is left out. Columns that are recorded in whole numbers, if only most
    of the time, get uniform noise of one unit, and those of one decimal of 0.1.
    """
    table = tables.load_diabetes(scaled=False)
    steps = {"age": 1, "bmi": 0.1, "bp": 1, "s1": 1, "s2": 0.1, "s3": 1, "s4": 1, "s5": 0, "s6": 1}
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, (len(table.data), len(steps)))
    x = table.data[:, [table.feature_names.index(name) for name in steps]]
    return _units(x + noise * np.array(list(steps.values())))


def digits() -> Rows:
    """The 64 pixels of digits, from 0 to 16, with uniform noise of one unit."""
    x = tables.load_digits().data
    return x + np.random.default_rng(0).uniform(size=x.shape)


def patches() -> Rows:
    """Grey patches of 8 × 8 pixels of two photographs, without their means: 63 columns.

    Pixels lie in [0, 1] after uniform noise of one level; the columns are the orthonormal cosine
    transform's coefficients but the constant. Patches overlap, across the splits too.
    """
    rng = np.random.default_rng(0)
    pictures = tables.load_sample_images().images
    found = []
    for picture in pictures:
        n = _N_PATCHES // len(pictures)
        grey = picture.astype(float) @ [0.299, 0.587, 0.114]
        windows = np.lib.stride_tricks.sliding_window_view(grey, (_SIDE, _SIDE))
        windows = windows.reshape(-1, _SIDE, _SIDE)
        chosen = np.sort(rng.choice(len(windows), n, replace=False))
        found.append((windows[chosen] + rng.uniform(size=(n, _SIDE, _SIDE))) / 256)
    x = dctn(np.concatenate(found), axes=(1, 2), norm="ortho")
    return x.reshape(len(x), -1)[:, 1:]


def _units(x: Rows) -> Rows:
    """The same table in units of its deviations: a choice of units, the same for everybody."""
    return x / x.std(0)


TABLES = {
    "wine": wine,
    "diabetes": diabetes,
    "breast cancer": breast_cancer,
    "digits": digits,
    "patches": patches,
}
