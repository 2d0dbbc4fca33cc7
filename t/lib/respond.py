"""Asking t/apps/respond.py for an answer."""

from urllib.parse import quote


class Expr:
    """A Python expression that goes to the application as it stands."""

    def __init__(self, text):
        self.text = text

    def __repr__(self):
        return self.text


def respond(**spec):
    """The path that makes respond.py answer as the keywords say."""
    return "/respond?" + quote(repr(spec), safe="")
