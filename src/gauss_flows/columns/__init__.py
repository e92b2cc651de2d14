"""Columns as they come: numbers, bounded numbers, counts and categories as real coordinates."""
