"""Trains the embedded model. Run it with `python -m patchclip.pretrain`."""
