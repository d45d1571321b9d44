"""What goes wrong, said once and clearly: every message names the argument, the value that came, and the remedy."""


class InputError(ValueError):
    """An argument that cannot be used. The message is one line: the argument, the value that came, what to do."""


class TrustWarning(UserWarning):
    """A result that was computed but should not be relied on to the digits shown; the message says why."""
