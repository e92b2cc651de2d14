"""Say plainly why this Python cannot host the package (runs on any Python 3)."""

import sys

if sys.version_info < (3, 11):  # noqa: UP036  (this script runs on the Python one happens to have)
    found = ".".join(str(part) for part in sys.version_info[:3])
    sys.exit(f"error: gauss-flows needs Python 3.11 or newer; {sys.executable} is {found}")

try:
    import ensurepip  # noqa: F401  (what `python -m venv` fails without, on some systems)
    import venv  # noqa: F401
except ImportError as missing:
    sys.exit(
        f"error: {sys.executable} cannot make a virtual environment ({missing}); "
        "on Debian and Ubuntu install the package python3-venv"
    )
