"""Functions compiled in less time."""

import jax.numpy as jnp
import pytest

from gauss_flows.numerics import quick_jit
from gauss_flows.numerics.quick_jit import accepts


def test_what_no_version_knows_is_not_accepted():
    assert not accepts({"xla_an_option_of_no_version": True})


@pytest.mark.parametrize("options", [quick_jit._OPTIONS, {"xla_an_option_of_no_version": True}])
def test_it_computes_whether_or_not_the_options_are_known(monkeypatch, options):
    monkeypatch.setattr(quick_jit, "_OPTIONS", options)
    assert float(quick_jit.quick_jit(lambda x, name: x[name].sum())({"a": jnp.ones(3)}, "a")) == 3
