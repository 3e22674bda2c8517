"""``python -m deblurkit``."""

from deblurkit.cli.app import main

if __name__ == "__main__":
    main()
