"""A small shop, of the kind Django teams run: the demo, and what the tests and the benchmarks run."""
