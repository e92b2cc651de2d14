"""The house's import order, walked by ast: an arrow that points back fails."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

SRC = Path(__file__).resolve().parents[1] / "src" / "gauss_flows"
PACKAGE = "gauss_flows"

# Rooms may import rooms of a lower storey only; those on one storey do not know each other.
STOREYS = (
    {"numerics"},
    {"bijections"},
    {"flows"},
    {"rbig", "training"},
    {"affine"},
    {"information", "estimators", "diagnostics", "serialization"},
    {"cli"},
)
RANK = {room: rank for rank, rooms in enumerate(STOREYS) for room in rooms}
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
                if target == PACKAGE:  # `from gauss_flows import rbig` names the room itself
                    yield from ((node.lineno, f"{PACKAGE}.{name.name}") for name in names)
                else:
                    yield node.lineno, target or ""
            case ast.Call(
                func=ast.Attribute(attr="import_module") | ast.Name(id="import_module"),
                args=[ast.Constant(value=str(target)), *_],
            ):
                yield node.lineno, target


def arrow_faults(source: str, module: str, *, is_package: bool = False) -> list[str]:
    """Say what is wrong with the imports of one module; empty when nothing is."""
    parts = module.split(".")
    if len(parts) == 1:
        return []  # the front door may show every room
    room = parts[1]
    faults = []
    if room not in RANK and room not in FREE | {ALONE}:
        faults.append(f"{module}: the room {room!r} is not in the order")
    for line, target in imported_modules(ast.parse(source), module, is_package=is_package):
        if target.split(".")[0] != PACKAGE:
            continue
        names = target.split(".")
        if len(names) == 1:
            faults.append(f"{module}:{line} imports the whole package")
            continue
        other = names[1]
        if other == room or other in FREE:
            continue
        if other == ALONE and room == "cli":
            continue
        if ALONE in (room, other) or RANK.get(other, len(STOREYS)) >= RANK.get(room, -1):
            faults.append(f"{module}:{line} imports {target}: {room} may not know {other}")
    return faults


def module_name(path: Path) -> str:
    parts = path.relative_to(SRC.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


SOURCES = sorted(SRC.rglob("*.py"))


def test_there_are_sources():
    assert {path.parent.name for path in SOURCES} >= {"numerics", "bijections", "flows", "cli"}


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
        ("gauss_flows.datasets.moons", "from gauss_flows.numerics import normal"),
        ("gauss_flows.rbig.loop", "from gauss_flows.datasets import moons"),
        ("gauss_flows.rbig.loop", "import gauss_flows"),
        ("gauss_flows.numerics.a", "import_module('gauss_flows.cli')"),
        ("gauss_flows.elsewhere.a", ""),
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
        ("gauss_flows.affine.bound", "from ..rbig import fit_rbig\nimport jax"),
        ("gauss_flows.serialization.save", "from gauss_flows._version import __version__"),
        ("gauss_flows", "from gauss_flows.cli import main"),
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
