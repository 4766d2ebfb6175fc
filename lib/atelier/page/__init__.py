"""The page with the DRAW button."""
