"""Models and arrays in files."""
