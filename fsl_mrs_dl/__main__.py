"""``python -m fsl_mrs_dl`` is the command ``fsl_mrs_dl``, also where the environment's scripts are not on the path."""

import sys

from .cli.main import main

if __name__ == "__main__":
    sys.exit(main())
