"""What is asked of a fit, and what it answers."""

from __future__ import annotations

from typing import Any, NamedTuple

from flowjax.distributions import Transformed

from gauss_flows.numerics.estimate import Estimate
from gauss_flows.rbig.blocks import Recipe
from gauss_flows.selection.mixture_recipes import FittedMixture, MixtureTrial


class Settings(NamedTuple):
    """What the user asked for; None where the choice is left to the fit.

    With `keep_interrupted` a `KeyboardInterrupt` ends the fit with the best flow so far, at least
    one Gaussian; otherwise it is raised. Where `is_contaminated`, outliers are among the rows, and
    no mixture may give them narrow shapes of their own.
    """

    family: str = "auto"
    n_layers: int | None = None
    n_components: int | None = None
    max_epochs: int | None = None
    learning_rate: float | None = None
    batch_size: int | None = None
    seed: int = 0
    show_progress: bool = False
    keep_interrupted: bool = False
    is_contaminated: bool = False


class Candidate(NamedTuple):
    """Something that was tried, and its mean log density on rows held back from it."""

    name: str
    log_density: Estimate


class AfterMixture(NamedTuple):
    """How a flow starts whose couplings follow a joint mixture.

    Args:
        mixture: The mixture that the couplings follow.
    """

    mixture: MixtureTrial

    def __str__(self) -> str:
        """Return for example `after a mixture of 5 Gaussians`."""
        return f"after {self.mixture}"


class Fitted(NamedTuple):
    """A fit in standardised units.

    Attributes:
        flow: The flow.
        family: Its family.
        recipe: How its start was fitted.
        n_blocks: The number of blocks of the start.
        candidates: What was tried, in order.
        history: Losses of the training that the flow came from, in nats; empty without any.
        mixture: The joint mixture that the flow is, or that missing values were drawn from.
    """

    flow: Transformed
    family: str
    recipe: Recipe | MixtureTrial | AfterMixture
    n_blocks: int
    candidates: list[Candidate]
    history: dict[str, Any]
    mixture: FittedMixture | None = None
