"""Genuine oracles: programs that compute energies and forces of conformations, and the jobs that run them."""
