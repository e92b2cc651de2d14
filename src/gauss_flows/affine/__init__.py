"""What a single affine coupling layer can do, and flows built on it."""

from gauss_flows.affine.candidates import rotation_matrix as rotation_matrix
from gauss_flows.affine.exact import AffineBound as AffineBound
from gauss_flows.affine.exact import exact_affine_bound as exact_affine_bound
from gauss_flows.affine.exact import exact_dependence as exact_dependence
from gauss_flows.affine.fit import AffineRecord as AffineRecord
from gauss_flows.affine.fit import fit_affine_flow as fit_affine_flow
from gauss_flows.affine.gain import affine_gain as affine_gain
from gauss_flows.affine.gaussian import affine_gain_gaussian as affine_gain_gaussian
from gauss_flows.affine.gaussian import coupling_contraction as coupling_contraction
from gauss_flows.affine.gaussian import gaussian_kl as gaussian_kl
from gauss_flows.affine.gaussian import marginal_contraction as marginal_contraction
from gauss_flows.affine.gaussian import (
    whitening_contraction_bound as whitening_contraction_bound,
)
from gauss_flows.affine.gaussian import whitening_gain_bound as whitening_gain_bound
from gauss_flows.affine.layer import closed_form_coupling as closed_form_coupling
from gauss_flows.affine.loss_split import AffineLossSplit as AffineLossSplit
from gauss_flows.affine.loss_split import affine_loss_split as affine_loss_split
from gauss_flows.affine.moments import ConditionalMoments as ConditionalMoments
from gauss_flows.affine.moments import conditional_moments as conditional_moments
from gauss_flows.affine.subspace import AffineSubspace as AffineSubspace
from gauss_flows.affine.subspace import optimal_affine_subspace as optimal_affine_subspace
