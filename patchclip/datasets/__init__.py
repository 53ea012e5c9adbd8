"""Folders and tables of labelled images: which normal images to fit on, and which images to test."""

from .folders import IMAGE_SUFFIXES, Category, Sample, images_in
from .read import LAYOUTS, DatasetError, read_dataset, read_elpv, read_mask, read_textile

__all__ = [
    "IMAGE_SUFFIXES",
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
