"""Exported files in `patchclip.runtime`."""
