"""What ends a run that asks teachers: each message is one clear line."""


class TeacherError(ValueError):
    """A teacher that cannot be asked at all: the message names it and the fix."""


class BudgetError(ValueError):
    """The budget is used up: the message says what was spent and how to go on."""
