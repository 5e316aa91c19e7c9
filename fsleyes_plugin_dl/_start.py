"""What ``fsl_mrs_dl view`` has FSLeyes run; FSLeyes gives the script its window as ``frame``."""

from fsleyes_plugin_dl.view import start

start(frame)  # noqa: F821
