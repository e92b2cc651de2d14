"""What a flow file may be made of: the only classes and functions that loading ever looks up."""

import functools
import importlib
import inspect
import pkgutil
from collections.abc import Callable
from types import ModuleType
from typing import Any, TypeVar

import equinox as eqx
import flowjax.bijections
import flowjax.distributions
import jax
import jax.numpy as jnp
import paramax
import paramax.utils as paramax_utils

from gauss_flows.serialization.errors import FlowFileError

_Class = TypeVar("_Class", bound=type)
_Function = TypeVar("_Function", bound=Callable)

# The rooms whose layers and conditioners flows are made of; imported when a file is at hand.
_ROOMS = ("gauss_flows.bijections", "gauss_flows.affine")
_FLOWJAX_BIJECTIONS = (
    "AdditiveCondition Affine Chain Concatenate Coupling DiscreteCosine EmbedCondition Exp Flip "
    "Householder Identity Indexed Invert LeakyTanh Loc Permute Planar Power "
    "RationalQuadraticSpline Reshape Sandwich Scale Scan Sigmoid SoftPlus Stack Tanh "
    "TriangularAffine Vmap"
)
_FLOWJAX_DISTRIBUTIONS = (
    "Cauchy Exponential Gumbel Laplace LogNormal Logistic MultivariateNormal Normal "
    "StandardNormal StudentT Transformed Uniform VmapMixture _StandardCauchy "
    "_StandardExponential _StandardGumbel _StandardLaplace _StandardLogistic "
    "_StandardStudentT _StandardUniform"
)
_PARAMAX = "NonTrainable Parameterize RealToIncreasingOnInterval WeightNormalization"
_EQUINOX = "Identity Lambda LayerNorm Linear MLP PReLU Sequential"
_JAX_NN = (
    "celu elu gelu hard_tanh identity leaky_relu log_sigmoid log_softmax mish relu relu6 selu "
    "sigmoid silu soft_sign softmax softplus tanh"
)
_JAX_NUMPY = "abs arcsinh arctan cos exp expm1 log log1p negative sin sinh square sqrt tan tanh"

_registered_classes: dict[str, type] = {}
_registered_functions: dict[str, Callable] = {}


def register_layer(cls: _Class) -> _Class:
    """Allow a class of your own in flow files.

    A conditioner or layer that is not part of this library must be registered before a
    flow that holds it is saved or loaded. It is rebuilt from its fields; its ``__init__``
    does not run.

    Args:
        cls: An ``equinox.Module`` class. It goes by its module and name, so both must be
            the same wherever its files are loaded.

    Returns:
        The class, so that this can stand above it as a decorator.

    Raises:
        ValueError: If it is not an ``equinox.Module`` class, or another class of the same
            name is part of the library.

    Example:
        >>> import equinox as eqx
        >>> @register_layer
        ... class Doubling(eqx.Module):
        ...     def __call__(self, x):
        ...         return 2 * x
    """
    if not isinstance(cls, type) or eqx.Module not in cls.__mro__:
        raise ValueError(f"Expected an equinox.Module class; got {cls!r}.")
    name = f"{cls.__module__}.{cls.__qualname__}"
    if _library_classes().get(name, cls) is not cls:
        raise ValueError(f"Expected a name that the library does not use; got {name}.")
    _registered_classes[name] = cls
    return cls


def register_function(function: _Function) -> _Function:
    """Allow a function of your own in flow files, such as an activation.

    Args:
        function: A function with a module and a name, by which it goes.

    Returns:
        The function, so that this can stand above it as a decorator.

    Raises:
        ValueError: If it has no name of its own, as a lambda has not, or another function
            of the same name is part of the library.

    Example:
        >>> @register_function
        ... def cube(x):
        ...     return x**3
    """
    name = f"{getattr(function, '__module__', None)}.{getattr(function, '__qualname__', None)}"
    if not callable(function) or isinstance(function, type) or "<lambda>" in name:
        raise ValueError(f"Expected a function with a name; got {function!r}.")
    if _library_functions().get(name, function) is not function:
        raise ValueError(f"Expected a name that the library does not use; got {name}.")
    _registered_functions[name] = function
    return function


def class_name(cls: type) -> str:
    """The name under which a class is saved.

    Raises:
        FlowFileError: If it is not allowed.
    """
    return _name_of(cls, [_library_classes(), _registered_classes]) or _refuse(
        f"{cls.__module__}.{cls.__qualname__}", "layer type", "register_layer"
    )


def class_of(name: str) -> type:
    """The class of this name.

    Raises:
        FlowFileError: If it is not allowed.
    """
    allowed = _library_classes() | _registered_classes
    return allowed.get(name) or _refuse(name, "layer type", "register_layer")


def function_name(function: Callable) -> str:
    """The name under which a function is saved.

    Raises:
        FlowFileError: If it is not allowed.
    """
    named = getattr(function, "__qualname__", None)
    name = f"{function.__module__}.{named}" if named else repr(function)
    return _name_of(function, [_library_functions(), _registered_functions]) or _refuse(
        name, "function", "register_function"
    )


def function_of(name: str) -> Callable:
    """The function of this name.

    Raises:
        FlowFileError: If it is not allowed.
    """
    allowed = _library_functions() | _registered_functions
    return allowed.get(name) or _refuse(name, "function", "register_function")


def _refuse(name: str, what: str, remedy: str) -> Any:
    raise FlowFileError(
        f"Unknown {what} {name}: it is not part of this library. If it is your own, give it to "
        f"gauss_flows.serialization.{remedy} before saving and before loading."
    )


def _name_of(value: object, tables: list[dict[str, Any]]) -> str | None:
    for table in tables:
        for name, known in table.items():
            if known is value:
                return name
    return None


@functools.cache
def _library_classes() -> dict[str, type]:
    classes = {
        **_listed(flowjax.bijections, _FLOWJAX_BIJECTIONS),
        **_listed(flowjax.distributions, _FLOWJAX_DISTRIBUTIONS),
        **_listed(paramax, _PARAMAX),
        **_listed(eqx.nn, _EQUINOX),
        "equinox.if_array": eqx.if_array,  # flowjax's Vmap holds one
    }
    # By the room's name and not the file's, so that files of the room may be moved.
    for room in map(importlib.import_module, _ROOMS):
        for info in pkgutil.iter_modules(room.__path__):
            module = importlib.import_module(f"{room.__name__}.{info.name}")
            classes |= {
                f"{room.__name__}.{name}": value
                for name, value in vars(module).items()
                if isinstance(value, type)
                and issubclass(value, eqx.Module)
                and value.__module__ == module.__name__
            }
    return classes


@functools.cache
def _library_functions() -> dict[str, Callable]:
    default = inspect.signature(eqx.nn.MLP).parameters["final_activation"].default
    return {
        **_listed(jax.nn, _JAX_NN),
        **_listed(jnp, _JAX_NUMPY),
        **_listed(paramax_utils, "inv_softplus"),
        "equinox.nn.MLP.final_activation": default,
    }


def _listed(module: ModuleType, names: str) -> dict[str, Any]:
    """The named members; one that another version of the module lacks is left out."""
    found = {name: getattr(module, name, None) for name in names.split()}
    return {
        f"{module.__name__}.{name}": value for name, value in found.items() if value is not None
    }
