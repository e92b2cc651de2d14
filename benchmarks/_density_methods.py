"""Density estimators that a user may pick instead, each as one call: fit, then log densities.

A method takes training rows and a seed and returns a function from rows to nats, both in the units
of the rows. All but our own see the rows standardised by the training rows' means and deviations.
"""

import copy
import math
import warnings
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.float64]
LogDensity = Callable[[Rows], NDArray[np.float64]]
Method = Callable[[Rows, int], LogDensity]

_NUMBERS = (1, 2, 3, 5, 8, 13, 21, 34, 55, 89, 144)
_BANDWIDTHS = np.geomspace(0.02, 2.0, 24)
_MOST_KDE_ROWS = 5_000
_FLOW_PATIENCE, _FLOW_EPOCHS, _FLOW_STEPS, _FLOW_BATCH = 20, 200, 2_000, 128


def standardised(fit: Method) -> Method:
    """The same method, on standardised rows."""

    def fit_standardised(x: Rows, seed: int) -> LogDensity:
        mean, deviation = x.mean(0), x.std(0)
        log_density = fit((x - mean) / deviation, seed)
        shift = np.log(deviation).sum()
        return lambda rows: log_density((rows - mean) / deviation) - shift

    return fit_standardised


def ours(x: Rows, seed: int) -> LogDensity:
    """`FlowDensity` as it comes."""
    from gauss_flows.estimators import FlowDensity

    return FlowDensity(random_state=seed).fit(x).score_samples


def one_gaussian(x: Rows, seed: int) -> LogDensity:
    """The normal law of the rows' mean and covariance."""
    from sklearn.mixture import GaussianMixture

    return GaussianMixture(1, random_state=seed).fit(x).score_samples


def gmm_bic(x: Rows, seed: int) -> LogDensity:
    """A full-covariance mixture; more components until BIC has not fallen for two numbers."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture

    best, best_bic, since = None, math.inf, 0
    for number in _NUMBERS:
        if number > len(x):
            break
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            mixture = GaussianMixture(number, random_state=seed).fit(x)
        bic = mixture.bic(x)
        best, best_bic, since = (mixture, bic, 0) if bic < best_bic else (best, best_bic, since + 1)
        if since == 2:
            break
    assert best is not None
    return best.score_samples


def kde_cv(x: Rows, seed: int) -> LogDensity:
    """A normal kernel whose bandwidth has the highest likelihood in five folds.

    Of more than 5000 rows so many choose it, and the bandwidth shrinks at the usual rate
    n^(−1/(d + 4)) for the rest.
    """
    from sklearn.model_selection import GridSearchCV, KFold
    from sklearn.neighbors import KernelDensity

    n, d = x.shape
    few = x[np.random.default_rng(seed).permutation(n)[:_MOST_KDE_ROWS]]
    folds = KFold(5, shuffle=True, random_state=seed)
    search = GridSearchCV(KernelDensity(), {"bandwidth": _BANDWIDTHS}, cv=folds, refit=False)
    bandwidth = search.fit(few).best_params_["bandwidth"] * (len(few) / n) ** (1 / (d + 4))
    return KernelDensity(bandwidth=bandwidth).fit(x).score_samples


def flowjax_flow(kind: str) -> Method:
    """One of flowjax's flows with splines, by the defaults of its `fit_to_data`."""

    def fit(x: Rows, seed: int) -> LogDensity:
        import equinox as eqx
        import jax.numpy as jnp
        import jax.random as jr
        from flowjax import flows
        from flowjax.bijections import RationalQuadraticSpline
        from flowjax.distributions import Normal
        from flowjax.train import fit_to_data

        make_key, fit_key = jr.split(jr.key(seed))
        flow = getattr(flows, kind)(
            make_key,
            base_dist=Normal(jnp.zeros(x.shape[1])),
            transformer=RationalQuadraticSpline(knots=8, interval=4),
        )
        rows = jnp.asarray(x, jnp.float32)
        flow, _ = fit_to_data(fit_key, flow, rows, show_progress=False)
        log_prob = eqx.filter_jit(lambda flow, rows: flow.log_prob(rows))

        def log_density(rows: Rows) -> NDArray[np.float64]:
            parts = np.array_split(rows, math.ceil(len(rows) / 5_000))
            return np.concatenate([np.asarray(log_prob(flow, jnp.asarray(part, jnp.float32)),
                                              np.float64) for part in parts])  # fmt: skip

        return log_density

    return fit


def zuko_flow(kind: str) -> Method:
    """One of zuko's flows: three transforms, Adam at 1e-3, the best state on a tenth held out."""

    def fit(x: Rows, seed: int) -> LogDensity:
        import torch
        import zuko

        torch.manual_seed(seed)
        wide = {} if kind == "GF" else {"hidden_features": (128, 128)}
        flow = getattr(zuko.flows, kind)(x.shape[1], transforms=3, **wide)
        order = torch.randperm(len(x))
        rows = torch.as_tensor(x, dtype=torch.float32)[order]
        n_held = math.ceil(0.1 * len(x))
        held, rows = rows[:n_held], rows[n_held:]
        optimizer = torch.optim.Adam(flow.parameters(), lr=1e-3)
        epochs = max(_FLOW_EPOCHS, math.ceil(_FLOW_STEPS * _FLOW_BATCH / len(rows)))
        patience = max(_FLOW_PATIENCE, epochs // 10)
        best, best_state, since = math.inf, copy.deepcopy(flow.state_dict()), 0
        for _ in range(epochs):
            for batch in rows[torch.randperm(len(rows))].split(_FLOW_BATCH):
                loss = -flow().log_prob(batch).mean()
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            with torch.no_grad():
                loss = float(-flow().log_prob(held).mean())
            since += 1
            if loss < best:
                best, best_state, since = loss, copy.deepcopy(flow.state_dict()), 0
            if since > patience or math.isnan(loss):
                break
        flow.load_state_dict(best_state)

        def log_density(rows: Rows) -> NDArray[np.float64]:
            with torch.no_grad():
                parts = torch.as_tensor(rows, dtype=torch.float32).split(5_000)
                return torch.cat([flow().log_prob(part) for part in parts]).double().numpy()

        return log_density

    return fit


OURS = "FlowDensity"
FLOW_PEERS = ("flowjax MAF", "flowjax coupling", "zuko NSF", "zuko GF")
METHODS: dict[str, Method] = {
    OURS: ours,
    "Gaussian": standardised(one_gaussian),
    "GMM, BIC": standardised(gmm_bic),
    "KDE, CV": standardised(kde_cv),
    "flowjax MAF": standardised(flowjax_flow("masked_autoregressive_flow")),
    "flowjax coupling": standardised(flowjax_flow("coupling_flow")),
    "zuko NSF": standardised(zuko_flow("NSF")),
    "zuko GF": standardised(zuko_flow("GF")),
}
