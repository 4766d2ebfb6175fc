"""What is trained and how: one file for each block."""
