"""Maps from structures to features, with their Jacobians."""
