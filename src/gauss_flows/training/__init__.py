"""Fitting a flow by maximum likelihood: schedules, early stopping, checkpoints, progress."""

from gauss_flows.training.checkpoint import CheckpointError as CheckpointError
from gauss_flows.training.fit import TrainingStoppedWarning as TrainingStoppedWarning
from gauss_flows.training.fit import fit_gaussianization_flow as fit_gaussianization_flow
from gauss_flows.training.split import split_rows as split_rows
