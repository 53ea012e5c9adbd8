"""Accuracy and latency of patchclip, its baselines and its peers: `python benchmarks/run.py --help`."""
