"""The program of speed.py: what patchclip promises of speed and size, each row beside its target."""
