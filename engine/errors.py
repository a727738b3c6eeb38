"""Two kinds of errors that are not bugs."""


class UserError(Exception):
    """Something the person can fix: shown without a traceback, says what happened, what was given, what to do.

    The message is a template and its values are given apart, so that it can be said in another language.
    `field` names the settings field it belongs to ("training.steps"), where there is one.
    """

    def __init__(self, message: str, field: str | None = None, **values: object) -> None:
        super().__init__(message, values)
        self.message, self.field, self.values = message, field, values

    def __str__(self) -> str:
        return self.message.format(**self.values) if self.values else self.message


class Cancelled(Exception):
    """The person asked the run to stop."""
