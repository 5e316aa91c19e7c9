"""The one family of errors a user is meant to read.

Every message is a single line that names the file, the value and the remedy.  The command line prints it and leaves
with status 2; anything that is *not* one of these is a fault of ours and shows its traceback.
"""


class FslMrsDlError(Exception):
    """Base of every error raised on purpose."""


class DataError(FslMrsDlError):
    """A spectroscopy file or array cannot be used as it is."""


class BasisError(FslMrsDlError):
    """A basis set cannot be read, or does not fit the data."""


class OptionError(FslMrsDlError):
    """An option or argument has a value that makes no sense."""


class OutputError(FslMrsDlError):
    """Results cannot be written where they were asked for."""
