#!/usr/bin/env python3
"""Refuses options and metrics that the reference does not name, headers nobody includes, and code
folders without a README.md."""
import re

import tree

OPTION = re.compile(r'\{"([A-Za-z_]+)",\s*"([a-z0-9_]+)",\s*OptionType::', re.S)
METRIC = re.compile(r'"(kumoi_[a-z0-9_]+)"\s*,\s*"')
INCLUDE = re.compile(r'#\s*include\s*"([^"]+)"')


def check(root=tree.ROOT):
    findings = []
    options_page = root / "docs/reference/configuration.md"
    metrics_page = root / "docs/reference/metrics.md"
    options_text = options_page.read_text() if options_page.exists() else ""
    metrics_text = metrics_page.read_text() if metrics_page.exists() else ""
    included = set()
    code = tree.files(root, ".h", ".cc", ".c", ".S", ".h.in")
    for name in code:
        text = (root / name).read_text()
        included.update(INCLUDE.findall(text))
        if name.startswith("tests/"):
            continue
        text = re.sub(r"//[^\n]*", "", text)
        for section, option in OPTION.findall(text):
            if f"`[{section}] {option}`" not in options_text:
                findings.append(f"{name}: option [{section}] {option} is not in docs/reference/configuration.md")
        for metric in METRIC.findall(text):
            if f"`{metric}`" not in metrics_text:
                findings.append(f"{name}: metric {metric} is not in docs/reference/metrics.md")
    for name in code:
        local = name.rsplit("/", 1)[-1]
        if name.endswith(".h") and name not in included and local not in included:
            findings.append(f"{name}: no file includes it")
    folders = {name.rsplit("/", 1)[0] for name in code if not name.startswith("tests/unit/")}
    for folder in sorted(folders):
        parent = folder
        while parent and not (root / parent / "README.md").exists():
            parent = parent.rpartition("/")[0]
        if parent != folder and folder.count("/") < 2:
            findings.append(f"{folder}: has no README.md")
    return findings


if __name__ == "__main__":
    tree.finish("documentation", check())
