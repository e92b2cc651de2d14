"""The names of the families that a fit may be asked for."""

FAMILIES = (
    "auto",
    "gaussian",
    "mixture",
    "rbig",
    "diagonal",
    "mixture-coupling",
    "spline-coupling",
    "affine-coupling",
)
# One column has nothing to condition on.
NEED_TWO_COLUMNS = ("mixture-coupling", "spline-coupling", "affine-coupling")
