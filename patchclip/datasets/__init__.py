"""Folders and tables of labelled images -> which normal images to fit on, and which images to test.

`read_dataset(path)` recognises the layout by itself.
"""

from ..errors import DatasetError
from .listing import images_in
from .masks import read_mask
from .packages import read_elpv, read_textile
from .read import LAYOUTS, read_dataset
from .types import Category, Sample

__all__ = [
    "LAYOUTS",
    "Category",
    "DatasetError",
    "Sample",
    "images_in",
    "read_dataset",
    "read_elpv",
    "read_mask",
    "read_textile",
]
