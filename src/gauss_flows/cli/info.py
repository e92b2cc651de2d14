"""`gauss-flows info`: what a saved flow is, and how it was fitted."""

from __future__ import annotations

from argparse import Namespace
from itertools import groupby
from typing import Any

import equinox as eqx
import jax
from flowjax.bijections import Chain

from gauss_flows.bijections.block_chain import BlockChain
from gauss_flows.cli.flow_file import load_flow
from gauss_flows.cli.report import as_json, estimate_from
from gauss_flows.selection.assemble import layers_of
from gauss_flows.selection.words import counted, shown


def run(arguments: Namespace) -> None:
    """Print what is known about the flow."""
    file = load_flow(arguments.flow)
    layers = layer_names(layers_of(file.flow))
    said = {
        "flow": arguments.flow,
        "family": file.summary["family"],
        "columns": file.columns,
        "layers": layers,
        "n_parameters": n_parameters(file.flow),
        "fit": file.summary,
    }
    if arguments.json:
        print(as_json(said))
        return
    fit = file.summary
    print(f"{arguments.flow}: {describe(fit)}")
    print(f"  columns     {len(file.columns)}: {', '.join(file.columns)}")
    print(f"  layers      {len(layers)}, from data to latent: {', '.join(_counted(layers))}")
    print(f"  parameters  {said['n_parameters']}")
    print(
        f"  fitted to   {fit['table']}, {fit['n_train']} rows of {fit['n_rows']} "
        f"(seed {fit['seed']}), by gauss-flows {fit['version']}"
    )
    print(f"  held out    {shown(estimate_from(fit['log_likelihood']))} nats a row")
    for baseline in fit["baselines"]:
        print(f"  it gains    {shown(estimate_from(baseline['gain']))} over: {baseline['name']}")


def describe(fit: dict[str, Any]) -> str:
    """Say in one phrase what was fitted."""
    family = {"rbig": "closed-form (RBIG)", "diagonal": "diagonal Gaussianization"}
    if fit["family"] == "gaussian":
        return "Gaussian as a flow"
    if fit["family"] == "mixture":
        return f"closed-form flow of joint mixtures ({fit['recipe']})"
    name = family.get(fit["family"], fit["family"].replace("-", " "))
    return f"{name} flow of {counted(fit['n_blocks'], 'block')} ({fit['recipe']})"


def layer_names(chain: Any) -> list[str]:
    """List the class of every layer, from data to latent."""
    if isinstance(chain, (Chain, BlockChain)):
        return [name for layer in chain.bijections for name in layer_names(layer)]
    return [type(chain).__name__]


def n_parameters(flow: Any) -> int:
    """Count the numbers of a flow, fixed ones included."""
    return sum(leaf.size for leaf in jax.tree.leaves(eqx.filter(flow, eqx.is_inexact_array)))


def _counted(layers: list[str]) -> list[str]:
    """Write repeated patterns short: `10 × (HouseholderRotation, MixtureGaussianCDF)`."""
    for length in (2, 3):
        if len(layers) > 2 * length and layers[1:-length] == layers[1 + length :]:
            n_times = (len(layers) - 1) // length
            return [layers[0], f"{n_times} × ({', '.join(layers[1 : 1 + length])})"]
    runs = [(name, len(list(run))) for name, run in groupby(layers)]
    return [name if count == 1 else f"{count} × {name}" for name, count in runs]
