"""Scalar mathematics on arrays: normal tails, mixtures, splines, the bracketed root find.

Nothing here knows a layer, a flow or a data set.
"""
