class InputError(ValueError):
    """An error that the user can mend, told in one line.

    It says what was received, what is expected and what to do. The command
    line prints it without a traceback.
    """
