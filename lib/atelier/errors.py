"""What goes wrong in ways that a user can mend."""


class AtelierError(ValueError):
    """Bad input; the message is a sentence or two: what was given, what was expected, what to do."""
