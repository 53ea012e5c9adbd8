#!/usr/bin/env python3
"""Accuracy and latency on any data, with any model and method: `python benchmarks/run.py --help`."""

from accuracy.main import main

if __name__ == "__main__":
    main()
