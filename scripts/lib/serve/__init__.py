"""What scripts/serve consists of."""


class Problem(Exception):
    """What keeps an application from being served, as a sentence for the user."""
