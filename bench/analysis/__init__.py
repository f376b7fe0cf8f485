"""Pure functions of recorded data: metrics, comparison, verdict."""
