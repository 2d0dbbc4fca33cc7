"""What the programs of scripts/ share, with the standard library alone."""
