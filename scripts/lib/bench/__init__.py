"""The parts of scripts/bench and scripts/instructions; scripts/serve uses some of them."""
