#!/usr/bin/env python3
"""Speed and size of patchclip beside their targets: `python benchmarks/speed.py --help`."""

import sys

from speed.main import main  # of the folder: a package comes before a file of its name

if __name__ == "__main__":
    sys.exit(main())
