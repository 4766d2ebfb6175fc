"""The seven blocks of the course, one file each: they import only torch, and each other where one contains another."""
