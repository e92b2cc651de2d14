"""What is offered for a slip."""

from gauss_flows.cli.errors import suggestion


def test_suggestions_are_slips_and_no_guesses():
    options = ["--columns", "--output", "--quiet", "--seed"]
    assert suggestion("--bogus", options) == ""
    assert suggestion("--sead", options) == "; did you mean '--seed'?"
    assert suggestion("--colums", options) == "; did you mean '--columns'?"
