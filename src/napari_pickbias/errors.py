"""The one error class for faults of the user's input."""


class InputError(Exception):
    """A fault in what the user gave, said in one line.

    The message names the file (or option), what is wrong in it and what would mend it. The doors print it as it
    stands, as one line on standard error, and end with exit code 2; no traceback is shown.

    Parameters
    ----------
    message : str
        One sentence. Line breaks are folded into blanks.
    """

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(str(message).split()))
