"""Potentials by name or from files: what they cover, how to get them, and one interface to all of them."""
