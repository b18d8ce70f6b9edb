"""Training of single architectures from scratch, to a test error and weights to deploy."""
