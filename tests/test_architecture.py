"""The house's import order, walked by ast: an arrow that points back fails."""

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

SRC = Path(__file__).resolve().parents[1] / "src"
PACKAGE = "gauss_flows"
UMBRELLA = "gaussianization"
MARGINALS = f"{UMBRELLA}.marginals"
# What both twins share, and needs neither.
SHARED = (MARGINALS, f"{UMBRELLA}.reflectors")
TWIN = f"{UMBRELLA}.gauss_keras"
CONVERSION = f"{TWIN}.conversion"
# Packages whose `from package import name` names a module.
PARENTS = {PACKAGE, UMBRELLA, "keras"}

# What is shared knows these and the standard library.
KNOWN_TO_SHARED = {"numpy", "scipy", "jaxtyping"}
JAX = {"jax", "jaxlib", "equinox", "flowjax", "paramax", "optax"}
BACKENDS = {"tensorflow", "torch", "keras.src"}

# Rooms may import rooms of a lower storey only; those on one storey do not know each other.
STOREYS = (
    {"numerics"},
    {"bijections"},
    {"flows"},
    {"rbig", "training", "columns"},
    {"affine", "selection"},
    {"information", "estimators", "diagnostics", "numpyro", "serialization"},
    {"cli"},
)
RANK = {room: rank for rank, rooms in enumerate(STOREYS) for room in rooms}
TWIN_STOREYS = (
    {"numerics", "registration"},
    {"mixtures", "losses", "rotation_choice"},
    {"bijectors", "spline_start"},
    {"factories", "warm_start"},
    {"conversion"},
)
TWIN_RANK = {room: rank for rank, rooms in enumerate(TWIN_STOREYS) for room in rooms}
ALONE = "datasets"
FREE = {"_version"}


def imported_modules(tree: ast.AST, module: str, *, is_package: bool) -> Iterator[tuple[int, str]]:
    """Yield (line, dotted module) of every import in the tree, those inside functions included."""
    package = module if is_package else module.rpartition(".")[0]
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                yield from ((node.lineno, name.name) for name in names)
            case ast.ImportFrom(module=target, names=names, level=level):
                if level:
                    base = package.split(".")[: len(package.split(".")) - level + 1]
                    target = ".".join([*base, *([target] if target else [])])
                if target in PARENTS:  # `from gauss_flows import rbig` names the room itself
                    yield from ((node.lineno, f"{target}.{name.name}") for name in names)
                else:
                    yield node.lineno, target or ""
            case ast.Call(
                func=ast.Attribute(attr="import_module") | ast.Name(id="import_module"),
                args=[ast.Constant(value=str(target)), *_],
            ):
                yield node.lineno, target


def within(target: str, *modules: str) -> bool:
    """Say whether a dotted name is one of the modules or lies in one."""
    return any(target == module or target.startswith(f"{module}.") for module in modules)


def arrow_faults(source: str, module: str, *, is_package: bool = False) -> list[str]:
    """Say what is wrong with the imports of one module; empty when nothing is."""
    may_import = umbrella_fault if within(module, UMBRELLA) else house_fault
    imports = list(imported_modules(ast.parse(source), module, is_package=is_package))
    faults = [(line, may_import(module, target)) for line, target in imports]
    faults = [f"{module}:{line} {fault}" for line, fault in faults if fault]
    room = f"{module}.".split(".")[1]
    rooms = (
        {"marginals", "reflectors", "gauss_keras"}
        if within(module, UMBRELLA)
        else {*RANK, *FREE, ALONE}
    )
    return faults if room in {"", *rooms} else [*faults, f"{module}: the room {room!r} is unknown"]


def house_fault(module: str, target: str) -> str:
    """Say why a module of gauss_flows may not import the target; empty when it may."""
    room, other = (f"{name}.".split(".")[1] for name in (module, target))
    if within(target, UMBRELLA):
        if not within(target, *SHARED):
            return f"imports {target}: of {UMBRELLA} only {', '.join(SHARED)} are known here"
        return f"imports {target}: {room} stands alone" if room == ALONE else ""
    if not within(target, PACKAGE) or not room:
        return ""  # the front door may show every room
    if not other:
        return "imports the whole package"
    if other == room or other in FREE or (other == ALONE and room == "cli"):
        return ""
    if ALONE in (room, other) or RANK.get(other, len(STOREYS)) >= RANK.get(room, -1):
        return f"imports {target}: {room} may not know {other}"
    return ""


def umbrella_fault(module: str, target: str) -> str:
    """Say why a module of gaussianization may not import the target; empty when it may."""
    if module == UMBRELLA:
        return f"imports {target}: the umbrella imports nothing"
    if within(module, *SHARED):
        known = {*KNOWN_TO_SHARED, *sys.stdlib_module_names}
        free = within(target, *SHARED) or target.split(".")[0] in known
        return "" if free else f"imports {target}: what is shared needs NumPy and SciPy alone"
    if within(target, TWIN):
        room, other = (f"{name}..".split(".")[2] for name in (module, target))
        if not room or room == other or TWIN_RANK.get(other, -1) < TWIN_RANK.get(room, -1):
            return ""
        return f"imports {target}: {room} may not know {other or 'the whole package'}"
    if within(target, UMBRELLA):
        return "" if within(target, *SHARED) else f"imports {target}: name its room"
    if within(target, *BACKENDS):
        return f"imports {target}: the twin is for every backend of Keras"
    if within(target, PACKAGE, *JAX) and not within(module, CONVERSION):
        return f"imports {target}: only {CONVERSION} may"
    return ""


def module_name(path: Path) -> str:
    parts = path.relative_to(SRC).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


SOURCES = sorted(path for name in (PACKAGE, UMBRELLA) for path in (SRC / name).rglob("*.py"))


def test_there_are_sources():
    rooms = {module_name(path.parent) for path in SOURCES}
    assert rooms >= {"gauss_flows.numerics", "gauss_flows.cli", MARGINALS, UMBRELLA}


@pytest.mark.parametrize("path", SOURCES, ids=module_name)
def test_imports_run_one_way(path):
    source = path.read_text(encoding="utf-8")
    faults = arrow_faults(source, module_name(path), is_package=path.name == "__init__.py")
    assert not faults, "\n".join(faults)


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("gauss_flows.numerics.normal", "from gauss_flows.bijections import ActNorm"),
        ("gauss_flows.numerics.normal", "import gauss_flows.flows.factory as f"),
        ("gauss_flows.bijections.coupling", "from ..flows import factory"),
        ("gauss_flows.bijections.coupling", "from .. import rbig"),
        ("gauss_flows.flows.diagonal", "def f():\n    from gauss_flows import rbig\n"),
        ("gauss_flows.rbig.loop", "from gauss_flows.training import loop"),
        ("gauss_flows.training.loop", "from gauss_flows.rbig.loop import fit_rbig"),
        ("gauss_flows.information.entropy", "import gauss_flows.diagnostics"),
        ("gauss_flows.serialization.save", "import gauss_flows.cli"),
        ("gauss_flows.numpyro.guide", "from gauss_flows.serialization import save"),
        ("gauss_flows.flows.diagonal", "from gauss_flows.numpyro import FlowDist"),
        ("gauss_flows.datasets.moons", "from gauss_flows.numerics import normal"),
        ("gauss_flows.rbig.loop", "from gauss_flows.datasets import moons"),
        ("gauss_flows.rbig.loop", "import gauss_flows"),
        ("gauss_flows.numerics.a", "import_module('gauss_flows.cli')"),
        ("gauss_flows.elsewhere.a", ""),
        ("gauss_flows", "from gaussianization import gauss_keras"),
        ("gauss_flows.cli.fit", "import gaussianization.gauss_keras.factories"),
        ("gauss_flows.cli.fit", "import gaussianization"),
        ("gauss_flows.datasets.moons", "from gaussianization.marginals import fit_mixtures"),
        ("gaussianization", "import numpy"),
        ("gaussianization", "from . import marginals"),
        ("gaussianization.elsewhere.a", ""),
        ("gaussianization.marginals.em", "import jax.numpy as jnp"),
        ("gaussianization.marginals.em", "def f():\n    from gauss_flows.numerics import normal\n"),
        ("gaussianization.marginals.em", "from keras import ops"),
        ("gaussianization.marginals.em", "from gaussianization import gauss_keras"),
        ("gaussianization.marginals.em", "from ..gauss_keras import flows"),
        ("gaussianization.marginals.em", "import sklearn.mixture"),
        ("gaussianization.gauss_keras.factories", "import gauss_flows"),
        ("gaussianization.gauss_keras.factories", "from gauss_flows.rbig import fit_mixtures"),
        ("gaussianization.gauss_keras.factories", "import jax"),
        ("gaussianization.gauss_keras.factories", "import equinox as eqx"),
        ("gaussianization.gauss_keras.factories", "def f():\n    import tensorflow as tf\n"),
        ("gaussianization.gauss_keras.factories", "from torch import nn"),
        ("gaussianization.gauss_keras.factories", "from keras.src.backend import any"),
        ("gaussianization.gauss_keras.factories", "from keras import src"),
        ("gaussianization.gauss_keras.factories", "import gaussianization"),
        ("gaussianization.gauss_keras.conversions", "import jax"),
        ("gaussianization.gauss_keras.losses", "from .bijectors.base import Bijector"),
        ("gaussianization.gauss_keras.numerics.a", "from ..mixtures import MixtureOfGaussians"),
        ("gaussianization.gauss_keras.bijectors.flow", "from ..warm_start import set_from_data"),
        ("gaussianization.reflectors", "import jax"),
        ("gaussianization.gauss_keras.conversion", "import torch"),
    ],
)
def test_a_wrong_arrow_is_rejected(module, source):
    assert arrow_faults(source, module)


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("gauss_flows.bijections.coupling", "from gauss_flows.numerics.normal import tail"),
        ("gauss_flows.bijections.coupling", "from .conditioner import Conditioner"),
        ("gauss_flows.cli.fit", "from gauss_flows import rbig, serialization"),
        ("gauss_flows.numpyro.guide", "import numpyro\nfrom gauss_flows.flows import assemble"),
        ("gauss_flows.affine.bound", "from ..rbig import fit_rbig\nimport jax"),
        ("gauss_flows.serialization.save", "from gauss_flows._version import __version__"),
        ("gauss_flows", "from gauss_flows.cli import main"),
        ("gauss_flows.numerics.normal", "from gaussianization.marginals import Histogram"),
        ("gauss_flows.rbig.fit", "from gaussianization import marginals"),
        ("gaussianization", '"""What it is."""'),
        ("gaussianization.marginals.em", "import math\nimport numpy as np\nfrom . import fit"),
        ("gaussianization.marginals.em", "from scipy.special import ndtri"),
        ("gaussianization.gauss_keras.factories", "import keras\nfrom keras import ops"),
        ("gaussianization.gauss_keras.factories", "from gaussianization.marginals import GAIN"),
        ("gaussianization.gauss_keras.factories", "from .bijectors import Bijector"),
        ("gaussianization.gauss_keras.conversion", "import jax\nimport equinox, gauss_flows"),
        (
            "gaussianization.gauss_keras.bijectors.rotation",
            "from ...reflectors import reflectors_of",
        ),
    ],
)
def test_a_right_arrow_is_accepted(module, source):
    assert not arrow_faults(source, module)


def test_relative_imports_of_a_package_resolve_from_the_package_itself():
    assert not arrow_faults("from .b import c", "gauss_flows.rbig", is_package=True)
    assert arrow_faults("from ..cli import c", "gauss_flows.rbig", is_package=True)


def precision_switches(source: str) -> list[str]:
    """Find code, examples in docstrings included, that sets the precision of the whole process."""
    in_code = [
        f"line {node.lineno}"
        for node in ast.walk(ast.parse(source))
        if (isinstance(node, ast.Attribute) and node.attr == "jax_enable_x64")
        or (isinstance(node, ast.Constant) and str(node.value).lower() == "jax_enable_x64")
    ]
    return in_code + re.findall(r"update\(\s*.jax_enable_x64", source)


@pytest.mark.parametrize("path", SOURCES, ids=module_name)
def test_no_source_switches_the_precision_of_the_process(path):
    assert not precision_switches(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    "source",
    [
        "jax.config.update('jax_enable_x64', True)",
        "jax.config.jax_enable_x64 = True",
        "os.environ['JAX_ENABLE_X64'] = '1'",
        '"""Example:\n>>> jax.config.update(\'jax_enable_x64\', True)\n"""',
    ],
)
def test_a_precision_switch_is_found(source):
    assert precision_switches(source)


def test_a_precision_of_one_block_or_a_word_of_advice_is_no_switch():
    assert not precision_switches("with jax.enable_x64(True): 'turn on jax_enable_x64 yourself'")
