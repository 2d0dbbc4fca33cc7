"""The parts of scripts/package wheel."""
