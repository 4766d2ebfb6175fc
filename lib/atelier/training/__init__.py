"""Training: one loop for all blocks, and one recipe for each of them."""
