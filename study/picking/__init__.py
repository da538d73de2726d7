"""The parts of `make study-picker`: workloads, contestants, verdicts, plots and the page."""
