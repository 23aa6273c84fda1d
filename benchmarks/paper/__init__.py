"""The paper's figures, from its authors' matrices: ``python -m benchmarks.paper.figures``."""
