"""The command `gauss-flows`: fit, score, sample and describe flows without writing Python."""

from gauss_flows.cli.app import main as main
