"""What runcard costs, and beside what: ``python -m benchmarks``."""
