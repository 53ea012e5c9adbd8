"""The program of run.py: accuracy and latency of several methods on any data."""
