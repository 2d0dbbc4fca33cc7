"""The documents: their links lead somewhere, and they name what the module has."""

import os
import re
import tomllib

import pytest
from lib import config, papers
from lib.commands import commands

DIRECTIVES = {each.name: each for each in papers.directives()}
# Of what is not built yet.
PLANS = {"several-sites-design.md"}
NOW = [paper for paper in papers.PAPERS if paper not in PLANS]


def target(paper, link):
    """The path, from the project's root, and the anchor of a link."""
    path, _, anchor = link.partition("#")
    if not path:
        return paper, anchor
    return os.path.normpath(os.path.join(os.path.dirname(paper), path)), anchor


def is_there(path):
    return os.path.exists(os.path.join(config.ROOT, path))


@pytest.mark.parametrize("paper", papers.PAPERS)
def test_links_lead_to_files_and_headings(paper):
    lost = []
    for link in papers.links(paper):
        if link.startswith("https://"):
            continue
        path, anchor = target(paper, link)
        if not is_there(path) or anchor and anchor not in papers.anchors(path):
            lost.append(link)
    assert lost == []


def test_each_document_is_reached_from_the_readme():
    found, new = set(), ["README.md"]
    while new:
        paper = new.pop()
        found.add(paper)
        linked = {target(paper, link)[0] for link in papers.links(paper)}
        new += [path for path in linked if path in papers.PAPERS and path not in found]
    assert sorted(found) == papers.PAPERS


def test_a_link_that_leads_nowhere_would_be_found(tmp_path, monkeypatch):
    text = ("# One `two`\n\n## A b: c()\n\n## A b: c()\n\n    ## [code](no)\n\n"
            "- a\n    [b\nc](d.md#e), `[f](g)`\n")
    (tmp_path / "some.md").write_text(text)
    monkeypatch.setattr(papers, "ROOT", str(tmp_path))
    assert papers.anchors("some.md") == ["one-two", "a-b-c", "a-b-c-1"]
    assert papers.links("some.md") == ["d.md#e"]


def files(*folders):
    for folder in folders:
        for place, _, names in os.walk(os.path.join(config.ROOT, folder)):
            for name in sorted(names):
                if not name.endswith((".pyc", ".sqlite3")):
                    yield os.path.relpath(os.path.join(place, name), config.ROOT)


def test_scripts_sources_and_tests_name_documents_that_are_there():
    lost = []
    for file in files("scripts", "src", "t", "nginx-conf", ".ci"):
        with open(os.path.join(config.ROOT, file), errors="replace") as opened:
            named = re.findall(r"\bdocs/[\w-]+\.(?:md|svg)\b", opened.read())
        lost += [f"{file}: {path}" for path in named if not is_there(path)]
    assert lost == []


def test_sources_name_sources_that_are_there():
    lost = []
    for file in files("src"):
        with open(os.path.join(config.ROOT, file), errors="replace") as opened:
            named = re.findall(r"\b(?:src/)?((?:nginx|python|wsgi)/[\w/]*\.rs)\b", opened.read())
        lost += [f"{file}: {path}" for path in named if not is_there(f"src/{path}")]
    assert lost == []


@pytest.mark.parametrize("paper", NOW)
def test_files_that_a_document_names_are_there(paper):
    named = re.findall(r"(?<![\w./@-])(?:docs|nginx-conf|scripts|src|t)/[\w./@-]*[\w/]",
                       papers.read(paper))
    assert [path for path in named if not is_there(path)] == []


def test_the_readme_is_short():
    assert papers.read("README.md").count("\n") <= 140


# -- docs/directives.md


def test_the_module_has_the_directives_of_the_page_and_no_others():
    assert sorted(DIRECTIVES) == sorted({each.name for each in commands(config.MODULE)})


@pytest.mark.parametrize("name", sorted(DIRECTIVES))
def test_contexts_and_arguments_of_a_directive_are_as_described(name):
    found = [each for each in commands(config.MODULE) if each.name == name and not each.is_refused]
    assert [each.contexts for each in found] == [DIRECTIVES[name].contexts]
    assert [each.takes for each in found] == [DIRECTIVES[name].takes()]


def test_the_index_has_the_directives_in_the_order_of_the_page():
    index = papers.read("docs/directives.md").split("\n## ")[0]
    links = re.findall(r"\[`?([^]`]*)`?\]\(#([\w-]+)\)", index)
    assert [name for name, _ in links] == papers.headings("docs/directives.md")[1:]
    assert [anchor for _, anchor in links] == papers.anchors("docs/directives.md")[1:]
    assert [name for name, _ in links if name.startswith("wsgi_")] == list(DIRECTIVES)


@pytest.mark.parametrize("paper", NOW)
def test_directives_that_a_document_names_exist(paper):
    named = set(re.findall(r"(?<![\w$/.])wsgi_\w+", papers.read(paper)))
    assert named - set(DIRECTIVES) - {"wsgi_params"} == set()


# -- CHANGELOG.md


def test_the_changelog_begins_with_the_version_and_has_the_sections_of_nginx():
    with open(os.path.join(config.ROOT, "Cargo.toml"), "rb") as file:
        version = tomllib.load(file)["package"]["version"]
    releases = re.findall(r"^## (.*)$", papers.read("CHANGELOG.md"), re.M)
    assert releases[0].split(",")[0] == version
    sections = set(re.findall(r"^### (.*)$", papers.read("CHANGELOG.md"), re.M))
    assert sections <= {"Security", "Change", "Feature", "Bugfix", "Workaround"}
