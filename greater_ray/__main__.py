"""``python -m greater_ray`` is the command ``greater-ray``."""

from greater_ray.cli.app import main

if __name__ == "__main__":
    main()
