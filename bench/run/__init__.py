"""THE path: assemble an experiment, run its jobs, drive, measure, store, and read results back."""
