"""A workshop's room: one screen that shows the pictures, exercise results and votes of all participants."""
