#!/usr/bin/env python3
"""Refuses files over 800 lines, functions over 70 lines, lines over 100 columns, and TRY() after another element
of a braced list: when TRY returns, compilers forget to destroy what the list already holds."""
import re

import tree

FILE_LINES_MAX = 800
FUNCTION_LINES_MAX = 70
COLUMNS_MAX = 100
BRACED_TRY = re.compile(r"[(,=\w]\s*\{[^{};()]*(?:\([^(){};]*\)[^{};()]*)*,\s*TRY\(")
NOT_A_FUNCTION = re.compile(r"^(namespace|struct|class|enum|union|extern|template\s*<[^>]*>\s*(struct|class))\b")


def without_literals(text):
    """Blanks out comments, strings and character literals, keeping newlines."""
    pattern = re.compile(
        r'R"(?P<delimiter>[^()\\ ]{0,16})\(.*?\)(?P=delimiter)"|//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"'
        r"|(?<![0-9a-fA-F])'(?:\\.|[^'\\\n])+'", re.S)
    return pattern.sub(lambda match: re.sub(r"[^\n]", " ", match.group(0)), text)


def functions(text):
    """Yields (first line, line count, head) of each brace block that is a function body at namespace or class level."""
    text = without_literals(text)
    text = re.sub(r"^[ \t]*#(?:[^\n]*\\\n)*[^\n]*", lambda m: re.sub(r"[^\n]", " ", m.group(0)), text, flags=re.M)
    stack = []  # (is container, head, line)
    head_start = 0
    line = 1
    for position, character in enumerate(text):
        if character == "\n":
            line += 1
        elif character == "{":
            head = " ".join(text[head_start:position].split())
            outer = all(container for container, _, _ in stack)
            container = outer and (not head or bool(NOT_A_FUNCTION.match(head)))
            stack.append((container, head, line))
            head_start = position + 1
        elif character == "}" and stack:
            container, head, first = stack.pop()
            if not container and all(entry[0] for entry in stack) and "(" in head:
                yield first, line - first + 1, head
            head_start = position + 1
        elif character == ";":
            head_start = position + 1
        elif character == ":" and text[max(0, position - 9):position].strip() in ("public", "private", "protected"):
            head_start = position + 1


def check(root=tree.ROOT):
    findings = []
    for name in tree.files(root, ".h", ".cc", ".c"):
        text = (root / name).read_text()
        lines = text.splitlines()
        if len(lines) > FILE_LINES_MAX:
            findings.append(f"{name}: {len(lines)} lines, at most {FILE_LINES_MAX}")
        for number, line in enumerate(lines, 1):
            if len(line) > COLUMNS_MAX:
                findings.append(f"{name}:{number}: {len(line)} columns, at most {COLUMNS_MAX}")
        for match in BRACED_TRY.finditer(without_literals(text)):
            findings.append(f"{name}:{text.count(chr(10), 0, match.end()) + 1}: TRY() inside a braced list leaks what "
                            "stands before it: name its value first")
        for first, count, head in functions(text):
            if count > FUNCTION_LINES_MAX:
                findings.append(f"{name}:{first}: function of {count} lines, at most {FUNCTION_LINES_MAX}: {head[-60:]}")
    return findings


if __name__ == "__main__":
    tree.finish("size limits", check())
