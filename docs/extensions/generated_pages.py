"""Pages made from the program: its commands, the maps of a volume, the recipes, and the records of the benchmarks.

They are written to ``docs/generated`` before a build reads its pages.
"""

from __future__ import annotations

import argparse
import ast
import json
import re
import shutil
from pathlib import Path

__all__ = ["setup", "pages"]

DOCS = Path(__file__).resolve().parents[1]
ROOT = DOCS.parent
GENERATED = DOCS / "generated"


def escaped(text: str) -> str:
    """Return plain text as Markdown that shows the same."""
    text = re.sub(r"([\\`*_{}\[\]<>#|$~^])", r"\\\1", " ".join(text.split()))
    return text.replace("--", "-\\-")


def table(head: list[str], rows: list[list[str]]) -> list[str]:
    """Return the lines of a Markdown table."""
    return ["| " + " | ".join(cells) + " |" for cells in (head, ["---"] * len(head), *rows)] + [""]


# -- commands ------------------------------------------------------------------------------------------------------


def words_of(action: argparse.Action) -> str:
    """Return how an option or argument is written."""
    values = ""
    if action.nargs != 0:
        names = action.metavar or (
            action.dest.upper() if action.choices is None else "|".join(map(str, action.choices))
        )
        values = " ".join(names) if isinstance(names, tuple) else str(names)
        if action.nargs in ("+", "*"):
            values += " ..."
    if not action.option_strings:
        return f"`{values}`"
    return ", ".join(f"`{word}`" for word in action.option_strings) + (f" `{values}`" if values else "")


def help_of(action: argparse.Action, parser: argparse.ArgumentParser) -> str:
    """Return the help of an option, with its defaults filled in."""
    return escaped(parser._get_formatter()._expand_help(action)) if action.help else ""


def sections_of(parser: argparse.ArgumentParser, level: int) -> list[str]:
    """Return the options of a parser, a table for each group, and those of its sub-commands."""
    lines = []
    for group in parser._action_groups:
        actions = [
            action
            for action in group._group_actions
            if action.help is not argparse.SUPPRESS
            and not isinstance(action, (argparse._HelpAction, argparse._SubParsersAction))
        ]
        if actions:
            title = (group.title or "options").capitalize()
            lines += [f"{'#' * level} {title}", ""]
            lines += table(["option", "meaning"], [[words_of(one), help_of(one, parser)] for one in actions])
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, child in action.choices.items():
                lines += [f"{'#' * level} `{parser.prog} {name}`", "", escaped(child.description or ""), ""]
                lines += sections_of(child, level + 1)
    return lines


def command_pages() -> dict[str, str]:
    """Return a page for every command, and the list of them."""
    from fsl_mrs_dl.cli.main import build_parser

    parser, jobs = build_parser()
    (subparsers,) = (action for action in parser._actions if isinstance(action, argparse._SubParsersAction))
    summaries = {action.dest: action.help for action in subparsers._choices_actions}
    pages, rows = {}, []
    for name, job in jobs.items():
        usage = f"`fsl_mrs_dl {name} --help` prints this page in a terminal."
        lines = [f"# `fsl_mrs_dl {name}`", "", escaped(job.description), "", usage, "", *sections_of(job, 2)]
        pages[f"commands/{name}.md"] = "\n".join(lines)
        rows.append([f"[`fsl_mrs_dl {name}`]({name}.md)", escaped(summaries[name])])
    tree = ["```{toctree}", ":hidden:", *jobs, "```", ""]
    text = (
        "Written from the program itself.  Exit status: 0 where all went well, 2 after an error that you can mend, "
        "1 after a fault of the program, 130 after Ctrl-C."
    )
    head = ["# Commands", "", text, "", *tree, *table(["command", "what it does"], rows)]
    return pages | {"commands/index.md": "\n".join(head)}


# -- maps, recipes -------------------------------------------------------------------------------------------------


def map_page() -> dict[str, str]:
    """Return the page of all maps of a volume."""
    from fsl_mrs_dl.results.layout import FAILED, QUANTITIES

    rows = [
        [f"`{one.template}`", f"`{one.key}`", escaped(one.label), escaped(one.unit), "yes" if one.fsl_mrs else ""]
        for one in QUANTITIES
    ]
    text = (
        "`fsl_mrs_dl mrsi` writes those that its model and options have.  The key is that of "
        "`fsl_mrs_dl render --quantity`."
    )
    failed = [[str(number), escaped(reason)] for number, reason in dict(FAILED).items()]
    lines = ["# Maps of a volume", "", text, "", *table(["file", "key", "what", "unit", "FSL-MRS writes it"], rows)]
    lines += ["Values of `quality/failed`:", "", *table(["value", "reason"], failed)]
    return {"maps.md": "\n".join(lines)}


def described(value) -> str:
    """Return an entry of a recipe in words."""
    if isinstance(value, dict):
        return "; ".join(
            f"{name}: {described(entry)}" for name, entry in value.items() if name not in ("doc", "source")
        )
    if isinstance(value, list):
        numbers = len(value) == 2 and not any(isinstance(entry, (dict, list, str)) for entry in value)
        return (" to " if numbers else ", ").join(described(entry) for entry in value)
    return str(value)


def recipe_page() -> dict[str, str]:
    """Return the page of all recipes, with their entries."""
    lines = ["# Recipes of simulated data", ""]
    lines += [
        "`--recipe` takes a name, or a JSON file in the same form: copy one of `fsl_mrs_dl/data/recipes` and "
        "change it.",
        "",
    ]
    for path in sorted((ROOT / "fsl_mrs_dl/data/recipes").glob("*.json")):
        recipe = json.loads(path.read_text(encoding="utf-8"))
        lines += [f"## {path.stem}", "", escaped(recipe.get("doc", "")), ""]
        if "source" in recipe:
            lines += [f"*{escaped(described(recipe['source']))}*", ""]
        rows = [
            [f"`{name}`", escaped(described(entry))] for name, entry in recipe.items() if name not in ("doc", "source")
        ]
        lines += table(["entry", "value or range"], rows)
    return {"recipes.md": "\n".join(lines)}


# -- records -------------------------------------------------------------------------------------------------------


def record_pages() -> dict[str, str]:
    """Return the records of the benchmarks, and copy their pictures beside them."""
    source, folder = ROOT / "benchmarks", GENERATED / "records"
    folder.mkdir(parents=True, exist_ok=True)
    for picture in source.glob("*.png"):
        shutil.copy2(picture, folder)
    return {f"records/{path.name}": path.read_text(encoding="utf-8") for path in sorted(source.glob("*.md"))}


# -- the project ---------------------------------------------------------------------------------------------------


def project_pages() -> dict[str, str]:
    """Return the pages on citing, contributing, security and changes, which hosts expect outside of the site."""
    names = [".github/CONTRIBUTING.md", ".github/SECURITY.md", ".github/CODE_OF_CONDUCT.md", "CHANGELOG.md"]
    texts = {f"project/{Path(name).name}": (ROOT / name).read_text(encoding="utf-8") for name in names}
    for name, text in texts.items():
        text = re.sub(r"\]\((?:\.\./)?docs/", "](/", text)
        texts[name] = re.sub(r"\]\(benchmarks/", "](../benchmarks/", text)
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8").rstrip()
    head = ["# Citing", "", "`CITATION.cff`, which reference managers and hosts of code read:", ""]
    return {**texts, "project/CITATION.md": "\n".join([*head, "```yaml", citation, "```", ""])}


# -- modules -------------------------------------------------------------------------------------------------------

# Wings whose modules are no library: commands, and what touches FSL-MRS and is described by its plugin.
_NO_LIBRARY = ("cli", "fslmrs", "models", "data")


def module_pages() -> dict[str, str]:
    """Return a page for every wing with the docstrings of its modules, and the list of them."""
    package = ROOT / "fsl_mrs_dl"
    pages, rows = {}, []
    for folder in sorted(path for path in package.iterdir() if (path / "__init__.py").is_file()):
        if folder.name in _NO_LIBRARY:
            continue
        about = ast.get_docstring(ast.parse((folder / "__init__.py").read_text(encoding="utf-8"))) or ""
        lines = [f"# fsl_mrs_dl.{folder.name}", "", escaped(about), ""]
        for path in sorted(folder.rglob("*.py")):
            if path.name != "__init__.py":
                name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
                title = name.removeprefix(f"fsl_mrs_dl.{folder.name}.")
                lines += [
                    f"## {escaped(title)}",
                    "",
                    "```{eval-rst}",
                    f".. automodule:: {name}",
                    "   :members:",
                    "```",
                    "",
                ]
        pages[f"modules/{folder.name}.md"] = "\n".join(lines)
        rows.append([f"[`fsl_mrs_dl.{folder.name}`]({folder.name}.md)", escaped(about.partition(".")[0])])
    tree = ["```{toctree}", ":hidden:", *(Path(name).stem for name in pages), "```", ""]
    text = (
        "Written from the docstrings.  [How it is built](../../contributing/structure.md) has the order of the wings."
    )
    head = ["# All modules", "", text, "", *tree, *table(["wing", "contents"], rows)]
    return pages | {"modules/index.md": "\n".join(head)}


def pages() -> dict[str, str]:
    """Return the text of every generated page by its path below ``docs/generated``."""
    return command_pages() | map_page() | recipe_page() | record_pages() | project_pages() | module_pages()


_MADE_OF = (
    (r"benchmarks/([\w.]+\.(?:md|png))", r"generated/records/\1"),
    (r"fsl_mrs_dl/data/recipes", r"generated/recipes.md"),
    (r"fsl_mrs_dl/results/layout\.py", r"generated/maps.md"),
    (r"fsl_mrs_dl/cli/(\w+)\.py", r"generated/commands/\1.md"),
    (r"(?:\.github/)?(CONTRIBUTING|SECURITY|CODE_OF_CONDUCT|CHANGELOG)\.md", r"generated/project/\1.md"),
    (r"CITATION\.cff", r"generated/project/CITATION.md"),
)
"""Files of the repository that pages link to, so that links work where the pages are read there, and pages of the site
that are made of them."""


def with_links_to_pages(text: str) -> str:
    """Return the source of a page with links to files of the repository turned into links to pages of the site."""
    for file, made in _MADE_OF:
        text = re.sub(rf"\]\((?:\.\./)+{file}(?=[)#])", rf"](/{made}", text)
    return text


def write(app=None) -> None:
    """Write the pages that changed, and remove those of files that are gone."""
    texts = pages()
    for name, text in texts.items():
        path = GENERATED / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
    for path in GENERATED.rglob("*.md"):
        if path.relative_to(GENERATED).as_posix() not in texts:
            path.unlink()


def _turn_links(app, docname: str, source: list[str]) -> None:
    source[0] = with_links_to_pages(source[0])


def setup(app):
    """Write the pages before the build looks for its own."""
    app.connect("config-inited", lambda app, config: write(app))
    app.connect("source-read", _turn_links)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


if __name__ == "__main__":
    write()
