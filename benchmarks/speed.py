#!/usr/bin/env python3
"""Speed and size of patchclip beside their targets: `python benchmarks/speed.py --help`."""

import sys

from speed.main import main

if __name__ == "__main__":
    sys.exit(main())
