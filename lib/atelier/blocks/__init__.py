"""The seven blocks of the course, one file each. They import only torch, and each other where one contains another."""
