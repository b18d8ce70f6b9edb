"""The DARTS space: cells, genotypes, networks."""
