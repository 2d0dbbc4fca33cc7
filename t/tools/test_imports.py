"""scripts/lib/imports.py finds imports that go round in a circle, or up."""

import subprocess
import sys

import pytest
from lib.config import ROOT


def room(tmp_path, files):
    for name, text in files.items():
        path = tmp_path / "wsgi" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return check(tmp_path / "wsgi")


def check(*rooms):
    done = subprocess.run([sys.executable, f"{ROOT}/scripts/lib/imports.py", *rooms],
                          capture_output=True, text=True)
    assert done.stderr == ""
    assert done.returncode == (1 if done.stdout else 0)
    return done.stdout.splitlines()


# `low`, a folder of three files, and `high`, which imports it.
GOOD = {
    "mod.rs": "//! The room.\n\npub mod low;\n\npub mod high;\n",
    "low/mod.rs": "mod first;\nmod second;\n\npub use second::Second;\n",
    "low/first.rs": "pub struct First;\n",
    "low/second.rs": "use super::first::First;\n\npub struct Second(First);\n",
    "high.rs": "use super::low::Second;\n\npub fn high(_: Second) {}\n",
}


def test_imports_that_go_one_way_are_right(tmp_path):
    assert room(tmp_path, GOOD) == []


@pytest.mark.parametrize("code", [
    "use super::second::Second;",
    "pub use crate::wsgi::low::second::Second as Other;",
    "use std::mem;\nuse crate::wsgi::{error::Wrong, low::{second::{Second}}};",
    "use super::{\n    second::Second,\n};",
    "fn first() {\n    use super::second::Second;\n}",
    "fn first(_: super::second::Second) {}",
    "fn first() {\n    crate::wsgi::low::second::Second::new();\n}",
    "const USE: &str = \"use\";\nfn first(_: super::second::Second) {}",
    "const SITE: &str = \"http://example.com\"; type T = super::second::Second;",
    "const QUOTE: u8 = b'\"'; type T = super::second::Second; const OTHER: u8 = b'\"';",
    "use super::*;\nfn first(_: Second) {}",
])
def test_a_circle_is_found(tmp_path, code):
    wrong = room(tmp_path, GOOD | {"low/first.rs": f"{code}\n\npub struct First;\n"})
    assert len(wrong) == 1
    assert wrong[0].startswith("a circle: ")
    assert f"{tmp_path}/wsgi/low/first.rs imports " in wrong[0]
    assert f"{tmp_path}/wsgi/low/second.rs imports {tmp_path}/wsgi/low/first.rs" in wrong[0]


def test_a_folder_whose_files_import_it_is_a_circle(tmp_path):
    wrong = room(tmp_path, GOOD | {
        "low/mod.rs": "mod first;\nmod second;\n\npub fn low() {\n    second::second();\n}\n",
        "low/second.rs": "use super::low;\n",
    })
    low = f"{tmp_path}/wsgi/low"
    assert wrong == [f"a circle: {low}/mod.rs imports {low}/second.rs imports {low}/mod.rs"]


@pytest.mark.parametrize("order", [
    "pub mod high;\n\npub mod low;\n",
    "pub mod high;\npub mod low;\n",
])
def test_only_groups_above_are_imported(tmp_path, order):
    wsgi = f"{tmp_path}/wsgi"
    assert room(tmp_path, GOOD | {"mod.rs": order}) == [
        f"{wsgi}/high.rs imports {wsgi}/low/mod.rs: "
        f"in {wsgi}/mod.rs low is not in a group above high"]


@pytest.mark.parametrize("code", [
    "// use super::second::Second;",
    "//! See [`super::second::Second`].",
    "pub(in crate::wsgi) struct Zero;\npub(super) struct Nil;",
    "use crate::python::second::Second;",
    "#[cfg(test)]\nmod tests {\n    use super::super::second::Second;\n}",
    "const TEXT: &str = \"use super::second::Second;\";",
])
def test_what_is_no_import_does_not_count(tmp_path, code):
    assert room(tmp_path, GOOD | {"low/first.rs": f"{code}\n\npub struct First;\n"}) == []


def test_files_of_tests_do_not_count(tmp_path):
    assert room(tmp_path, GOOD | {
        "low/first.rs": "pub struct First;\n\n#[cfg(test)]\nmod tests;\n",
        "low/first/tests.rs": "use super::*;\nuse crate::wsgi::high::high;\n",
    }) == []


def test_a_room_without_imports_is_an_error(tmp_path):
    wrong = room(tmp_path, {"mod.rs": "pub mod low;\n", "low.rs": "pub struct Low;\n"})
    assert wrong == [f"{tmp_path}/wsgi: no imports: nothing would be checked"]
