"""What the fuzzers and the soak test share."""
