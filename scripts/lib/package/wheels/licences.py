"""The licences of all that is in the wheel."""

import json
import re
import shutil
from pathlib import Path

from common.paths import ROOT

from .steps import Failed, output


def collect(folder, nginx, archives):
    """Fills the folder: ours, nginx's, those of the libraries and of the crates in the module."""
    folder.mkdir(exist_ok=True)
    shutil.copy(ROOT / "LICENSE", folder / "LICENSE")
    shutil.copy(nginx / "licence", folder / "nginx")
    for archive in archives:
        package = output("dpkg-query", "--search", archive).partition(":")[0]
        shutil.copy(f"/usr/share/doc/{package}/copyright", folder / package)
    (folder / "crates").write_text(crates())


def crates():
    """Those that are compiled into the module, not those that only build or test it."""
    tree = output("cargo", "tree", "--locked", "--edges", "normal", "--prefix", "none",
                  "--format", "{p}", cwd=ROOT)
    wanted = set(re.findall(r"^(\S+) v(\S+)", tree, re.M))
    packages = json.loads(output("cargo", "metadata", "--locked", "--format-version", "1",
                                 cwd=ROOT))["packages"]
    text = []
    for each in sorted(packages, key=lambda each: each["name"]):
        if (each["name"], each["version"]) not in wanted or each["source"] is None:
            continue
        place = Path(each["manifest_path"]).parent
        files = sorted(path for path in place.iterdir()
                       if re.match("(?i)licen[sc]e|copying|unlicense", path.name)
                       and path.is_file())
        if not files and not each["license"]:
            raise Failed(f"the crate {each['name']} has no licence")
        text.append(f"{each['name']} {each['version']}: {each['license']}\n")
        text += [path.read_text(errors="replace") for path in files]
    return "\n".join(text)
