"""Latency-aware differentiable architecture search: supernet, LAT(α), bi-level loop."""

if __name__ != "latkit.search":
    raise ImportError(
        f"import this package as latkit.search, not as {__name__}: a second copy of its classes "
        "would not be recognised by the rest of latkit"
    )
