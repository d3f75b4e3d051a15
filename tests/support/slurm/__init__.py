"""A Slurm of one node, small studies on it, and the faults of docs/hpc.md."""
