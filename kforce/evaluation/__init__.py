"""How good a model is: errors, calibration, learning curves, figures."""
