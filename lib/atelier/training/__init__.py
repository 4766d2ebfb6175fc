"""Training: one loop for all blocks, and a recipe for each block."""
