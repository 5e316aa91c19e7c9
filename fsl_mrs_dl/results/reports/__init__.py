"""HTML reports, each one file that opens without a network."""
