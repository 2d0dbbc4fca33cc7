"""Reports of a memory checker (scripts/sanitize): whatever appears in TEST_NGINX_REPORTS."""

import os

DIRECTORY = os.environ.get("TEST_NGINX_REPORTS")
_seen = {}


def reports():
    """What has been written since the last call."""
    found = []
    for name in sorted(os.listdir(DIRECTORY)) if DIRECTORY else ():
        path = f"{DIRECTORY}/{name}"
        if os.path.getsize(path) > _seen.get(name, 0):
            with open(path, errors="replace") as file:
                file.seek(_seen.get(name, 0))
                found.append(file.read())
                _seen[name] = file.tell()
    return "\n".join(found)
