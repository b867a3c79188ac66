"""Estimators that tie everything together."""
