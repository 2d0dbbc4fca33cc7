"""What `nginx-wsgi serve` and scripts/serve consist of."""


class Problem(Exception):
    """What keeps an application from being served, as a sentence for the user."""
