"""Having t/apps/talk.py say something, and the records that come of it."""

from urllib.parse import quote

from .errorlog import message


def say(site, how, expression, status=200, level="error"):
    """Make the application say it; the records of this level that came of it."""
    mark = site.log.mark()
    path = f"/talk/{how}?{quote(expression, safe='')}"
    assert site.get(path).status == status
    # Lines travel to the log beside the answer: a last one shows that all have arrived.
    site.get(f"/talk/write?{quote(repr('THE END' + chr(10)))}")
    site.log.wait_for("THE END", start=mark)
    lines = site.log.matching(rf"\[{level}\]", mark)
    return [line for line in lines if "THE END" not in line]


def texts(lines):
    return [message(line) for line in lines]
