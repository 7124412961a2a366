#!/usr/bin/env python3
"""Writes the signatures and the descriptions of functions and views in docs/sql-reference.md.

The source is sql/: the CREATE FUNCTION, CREATE PROCEDURE and COMMENT ON statements of the files in sql/order. On the
page, a ```text fence holds the signature of a function, or of several; the description of a view follows its heading,
"### tenancy.name". After either stands the generated block:

    <!-- from sql/context.sql -->
    the text of the COMMENT
    <!-- end -->

A fence or heading without a block gets one. Everything else on the page is written by hand.

In a COMMENT a blank line begins a paragraph and "- " an item of a list. Names, SQLSTATEs and JSON are plain there, for
psql, and become code on the page.

    tools/sql_reference.py            rewrites the page
    tools/sql_reference.py --check    prints what it would change and exits with 1 if there is anything
"""

import difflib
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "sql-reference.md"
COLUMNS = 120

TEXT = r"'((?:[^']|'')*)'"
FENCE = re.compile(r"^```text\n((?:CALL )?tenancy\..*?)^```\n", re.MULTILINE | re.DOTALL)
HEADING = re.compile(r"^### (tenancy\.\w+)\n", re.MULTILINE)
BLOCK = re.compile(r"\s*<!-- from sql/\S+ -->\n.*?<!-- end -->\n", re.DOTALL)


def fail(message):
    sys.exit(f"tools/sql_reference.py: {message}")


class Described:
    """A function, procedure or view with its file, its signature and the text of its COMMENT."""

    def __init__(self, name, file, signature, comment):
        self.name, self.file, self.signature, self.comment = name, file, signature, comment

    def heading(self):
        """The signature up to the end of the arguments, which tells overloaded functions apart."""
        return self.signature[: closing(self.signature, self.signature.index("(")) + 1]


def in_one_line(text):
    return " ".join(text.split()).replace("( ", "(")


def closing(text, opening):
    """The place of the parenthesis that closes the one at `opening`."""
    depth = 0
    for place in range(opening, len(text)):
        depth += {"(": 1, ")": -1}.get(text[place], 0)
        if depth == 0:
            return place
    fail(f"no closing parenthesis in {text}")


def read_sql():
    """All functions and procedures in the order of sql/, and all views by name."""
    routines, views = [], {}
    files = (ROOT / "sql" / "order").read_text(encoding="utf-8").splitlines()
    for file in (file for file in files if file and not file.startswith("#")):
        sql = (ROOT / "sql" / file).read_text(encoding="utf-8")
        for made in re.finditer(r"^CREATE (FUNCTION|PROCEDURE) (tenancy\.\w+)(.*?)\n    LANGUAGE", sql, re.M | re.S):
            kind, name, rest = made.groups()
            comment = re.compile(rf"^COMMENT ON {kind} {re.escape(name)}\([^;]*?\) IS\s+{TEXT};", re.M)
            found = comment.search(sql, made.end())
            if not found or f"CREATE {kind} {name}(" in sql[made.end() : found.start()]:
                fail(f"{name} in sql/{file} has no COMMENT")
            signature = ("CALL " if kind == "PROCEDURE" else "") + in_one_line(name + rest)
            routines.append(Described(name, file, signature, found.group(1).replace("''", "'")))
        for found in re.finditer(rf"^COMMENT ON VIEW (tenancy\.\w+) IS\s+{TEXT};", sql, re.M):
            views[found.group(1)] = Described(found.group(1), file, None, found.group(2).replace("''", "'"))
    return routines, views


# --- Signatures ------------------------------------------------------------------------------------------------------


def list_items(text):
    """The parts of an argument list, cut at the commas outside of parentheses."""
    items, depth, begin = [], 0, 0
    for place, letter in enumerate(text):
        depth += {"(": 1, ")": -1}.get(letter, 0)
        if letter == "," and depth == 0:
            items.append(text[begin : place + 1].strip())
            begin = place + 1
    return [*items, text[begin:].strip()]


def packed(items, end, columns=COLUMNS):
    """Indented lines, each with as many items as fit."""
    lines = [""]
    for item in [*items[:-1], items[-1] + end]:
        if lines[-1] and len(lines[-1]) + 1 + len(item) > columns:
            lines.append("")
        lines[-1] += (" " if lines[-1] else "    ") + item
    return lines


def laid_out(signature):
    """The lines of a signature: one if it fits, otherwise the arguments and the columns of the result indented."""
    if len(signature) <= COLUMNS:
        return [signature]
    opening = signature.index("(")
    end = closing(signature, opening)
    result = signature[end + 1 :]
    table = re.fullmatch(r"( RETURNS TABLE \()(.*)\)", result)
    head = signature[: end + 1] + (table.group(1) if table else "")
    if table and len(head) <= COLUMNS:
        return [head, *packed(list_items(table.group(2)), ")")]
    arguments = list_items(signature[opening + 1 : end])
    after = table.group(1) if table else result
    lines = [signature[: opening + 1], *packed(arguments, ")")]
    if len(lines[-1]) + len(after) <= COLUMNS:
        lines[-1] += after
    else:
        lines.append("   " + after)
    return [*lines, *packed(list_items(table.group(2)), ")")] if table else lines


# --- Descriptions ----------------------------------------------------------------------------------------------------

CODE = re.compile(
    r"""
      psql[ ]-[^\n]+?[ ]>[ ]\w+                                    # a command of the shell
      | (?<!\S)\\[a-z]+                                            # a command of psql
      | '?\{(?:[^{}]|\{(?:[^{}]|\{[^{}]*\})*\})*\}'?              # JSON, an empty array
      | '?\(SELECT[ ][^()]*(?:\([^()]*\)[^()]*)*\)'?               # a subquery
      | (?:CALL[ ]|\b\w+[ ]>=[ ])?tenancy\.\w+(?:\.\w+|\([^()]*\))?   # a table, a column, a function
      | \b[a-z_]+[ ]=>[ ][^\s,;.()]+                                # an argument with its value
      | (?<![\w"'/.])(?=[0-9A-Z]*[0-9])[0-9A-Z]{5}(?![\w"'])        # a SQLSTATE
      | (?<!\w)/[a-z_]+(?:/[a-z_]+)*                                # a JSON pointer
      | (?<![\w"])[a-z]+:[a-z]+(?![\w"])                            # a permission
      | (?<![\w"])[\w.-]*_[\w.<>-]*[\w>](?:\([^()]*\))?            # a name with an underscore
      | (?<!\S)\*(?=[\s,;.:])                                      # the permission for everything
    """,
    re.VERBOSE,
)

# What an item of a list is about: "reason, legal_basis: "
NAMED = re.compile(r"(\w+(?:, \w+)*): ")


def marked(text):
    """The text with Markdown's code marks around names, and its special characters made harmless elsewhere."""
    pieces, place = [], 0
    for found in CODE.finditer(text):
        pieces += [escaped(text[place : found.start()]), f"`{found.group()}`"]
        place = found.end()
    return "".join([*pieces, escaped(text[place:])])


def escaped(text):
    return re.sub(r"[*<`\\]", r"\\\g<0>", text)


def wrapped(text, first, rest):
    """Lines of at most COLUMNS; code with spaces in it is not broken."""
    words = re.findall(r"(?:`[^`]*`|[^\s`]|`)+", text)
    lines = [first]
    for word in words:
        if len(lines[-1].rstrip()) + 1 + len(word) > COLUMNS and lines[-1].strip() not in ("", "-"):
            lines.append(rest)
        lines[-1] += word if lines[-1].endswith(" ") or not lines[-1] else " " + word
    return lines


def description(comment, title=""):
    """The lines of a COMMENT in Markdown; with a title, as an item of a list."""
    lines, indent, in_list = [], "  " if title else "", False
    for part in re.split(r"\n\s*\n|\n(?=- )", comment.strip()):
        item = part.startswith("- ")
        if lines and not (item and in_list):
            lines.append("")
        text = " ".join(part.removeprefix("- ").split())
        named = item and NAMED.match(text)
        if named:
            names = ", ".join(f"`{name}`" for name in named.group(1).split(", "))
            text = f"{names}: {marked(text[named.end():])}"
        else:
            text = marked(text)
        if title and not lines:
            lines = wrapped(f"`{title}`: {text}", "- ", "  ")
        else:
            lines += wrapped(text, indent + ("- " if item else ""), indent + ("  " if item else ""))
        in_list = item
    return lines


def block(described):
    """The generated block of a function or view, or of the functions that share a fence."""
    file = described[0].file
    if any(one.file != file for one in described):
        fail(f"the functions of a fence come from several files: {', '.join(one.name for one in described)}")
    alone = len(described) == 1
    lines = [line for one in described for line in description(one.comment, "" if alone else short(one))]
    return "\n".join([f"<!-- from sql/{file} -->", *lines, "<!-- end -->", ""])


def short(routine):
    """The name with the names of the arguments."""
    opening = routine.heading().index("(")
    arguments = [one.split()[0] for one in list_items(routine.heading()[opening + 1 : -1]) if one]
    return f"{routine.name}({', '.join(arguments)})"


# --- The page --------------------------------------------------------------------------------------------------------


def signatures(fence, routines):
    """The functions whose signatures stand in a fence."""
    found = []
    for begin in re.finditer(r"^(?:CALL )?(tenancy\.\w+)\(", fence, re.MULTILINE):
        name = begin.group(1)
        known = [routine for routine in routines if routine.name == name]
        if len(known) > 1:
            head = in_one_line(fence[begin.start() : closing(fence, begin.end() - 1) + 1])
            known = [routine for routine in known if routine.heading() == head]
        if len(known) != 1:
            fail(f"sql/ has no function {fence[begin.start():].splitlines()[0]}")
        found += known
    return found


def rewritten(page):
    routines, views = read_sql()
    shown, pieces, place = set(), [], 0
    places = [*FENCE.finditer(page), *HEADING.finditer(page)]
    for found in sorted(places, key=lambda one: one.start()):
        if found.re is FENCE:
            described = signatures(found.group(1), routines)
            lines = [line for one in described for line in laid_out(one.signature)]
            head = "\n".join(["```text", *lines, "```", ""])
        elif found.group(1) in views:
            described = [views[found.group(1)]]
            head = found.group() + "\n"
        else:
            continue
        shown.update(id(one) for one in described)
        pieces += [page[place : found.start()], head, block(described)]
        old = BLOCK.match(page, found.end())
        place = old.end() if old else found.end()
    missing = [one.heading() for one in routines if id(one) not in shown]
    missing += [f"### {name}" for name, one in views.items() if id(one) not in shown]
    if missing:
        fail("docs/sql-reference.md lacks\n  " + "\n  ".join(missing))
    return "".join([*pieces, page[place:]])


def main():
    old = PAGE.read_text(encoding="utf-8")
    new = rewritten(old)
    if sys.argv[1:] == ["--check"]:
        lines = [text.splitlines(keepends=True) for text in (old, new)]
        difference = list(difflib.unified_diff(*lines, "docs/sql-reference.md", "as sql/ has it", n=1))
        if difference:
            print("docs/sql-reference.md is not what sql/ has; run tools/sql_reference.py:")
            sys.exit("".join(difference))
    elif sys.argv[1:]:
        sys.exit(__doc__)
    elif new != old:
        PAGE.write_text(new, encoding="utf-8")


if __name__ == "__main__":
    main()
