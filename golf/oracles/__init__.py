"""Genuine oracles: programs that compute energies and forces of conformations."""
