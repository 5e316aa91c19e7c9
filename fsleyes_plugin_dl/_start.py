"""Script that ``fsl_mrs_dl view`` passes to FSLeyes, which provides its window as ``frame``."""

from .view import start

start(globals()["frame"])
