"""Compiled inner loops: flat arrays in, arrays out."""
