"""The errors a user can cause, each with one message: what was expected, what came, what to do.

    WarmupDistillError
    ├── RecipeError      the recipe, or an override of it
    ├── DataError        a data file, data set, column or row
    ├── ModelError       a model, its tokenizer, or the two models together
    └── RunError         the run directory, or a stage that has nothing to work on
        └── LostError    workers were lost more often than a run stands

The command line prints the message and exits with code 2. They are `ValueError`s, so a script
that guards its own arguments catches them too. Our own invariants use `assert` instead.
"""


class NumbersError(ArithmeticError):
    """A loss, gradient or log-probability is not finite: going on would mean nothing.

    Not a mistake of the user's: the command line prints the message and exits with code 1.
    """


class ShortOfMemoryError(MemoryError):
    """Memory ran out while models were at work; it was given back, and less at once may fit.

    Not a mistake of the user's: the command line prints the message and exits with code 1.
    """


class WarmupDistillError(ValueError):
    """The user's input is wrong; the message says what to do."""


class RecipeError(WarmupDistillError):
    """The recipe does not parse or does not validate."""


class DataError(WarmupDistillError):
    """A data set is missing, empty, or not of the expected form."""


class ModelError(WarmupDistillError):
    """A model cannot be loaded, or teacher and student do not fit together."""


class RunError(WarmupDistillError):
    """The run directory cannot be used as asked."""


class LostError(RunError):
    """Workers were lost more often than `cluster.max_failures` allows; the message says why."""
