"""Drawing: from a prompt to ranked pictures."""
