"""Scalar mathematics on tensors, in `keras.ops`: knows no layer."""
