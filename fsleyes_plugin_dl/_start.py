"""What ``fsl_mrs_dl view`` has FSLeyes run; FSLeyes gives the script its window as ``frame``."""

from .view import start

start(frame)  # noqa: F821
