"""The errors that a user's input can cause."""


class InputError(ValueError):
    """Input that kforce cannot use: what was expected, what was found, what to do.

    The command line prints the message alone, without a traceback.
    """
