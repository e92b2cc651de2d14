"""Closed-form fits: marginals, rotations, the RBIG loop and the warm start."""

from gauss_flows.rbig.entropy import marginal_entropy, negentropy
from gauss_flows.rbig.fit import fit_rbig, fit_rbig_coupling
from gauss_flows.rbig.loop import RBIGRecord
from gauss_flows.rbig.marginal_fit import fit_mixtures
from gauss_flows.rbig.rotations import choose_rotation, sliced_directions
from gauss_flows.rbig.warm_start import warm_start
from gaussianization.marginals import Histogram, MixtureFit, bin_edges

__all__ = [
    "Histogram",
    "MixtureFit",
    "RBIGRecord",
    "bin_edges",
    "choose_rotation",
    "fit_mixtures",
    "fit_rbig",
    "fit_rbig_coupling",
    "marginal_entropy",
    "negentropy",
    "sliced_directions",
    "warm_start",
]
