"""`python -m patchclip` is the `patchclip` command."""

from .cli import main

if __name__ == "__main__":
    main()
