"""GOLF: Gradual Optimization Learning for Conformational Energy Minimization."""

__version__ = "0.1.0"
