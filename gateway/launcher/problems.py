"""What keeps GenPlat from starting, said in one line; knows nothing of how it was found."""


class LaunchProblem(Exception):
    """A sentence for the person at the terminal: what is wrong and the way out.

    ``exit_code`` is 2 where the surroundings are at fault (nothing was started), 1 where a
    service that was started did not come up.
    """

    def __init__(self, message: str, *, exit_code: int = 2) -> None:
        super().__init__(message)
        self.exit_code = exit_code
