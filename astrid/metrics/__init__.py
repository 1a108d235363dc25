"""How a trained network is judged: pixels, calibration, objects, latency."""
