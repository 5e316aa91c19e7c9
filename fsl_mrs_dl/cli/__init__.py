"""The command line: a file per command with ``add_arguments(parser)`` and ``run(args)``."""
