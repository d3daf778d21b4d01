"""Runs the `kumoi` commands that a reference page shows, in the page's order, so that none of them is only text."""
import os
import re
import shlex
import subprocess

from cloud import CLI, ROOT

_VARIANT = re.compile(r"or (--[a-z]+ \S+)")  # in the comment of a command: it takes this as well


def commands_of(page):
    """Those of the page's code blocks; a comment's variant is a command of its own."""
    found = []
    for line in (ROOT / "docs/reference" / page).read_text().splitlines():
        if line.startswith("    kumoi "):
            command, _, comment = line.strip().partition(" #")
            found.append(command.rstrip())
            found += [f"{found[-1]} {variant}" for variant in _VARIANT.findall(comment)]
    return found


class Administrator:
    """Types commands in a folder of its own on the host of a cloud. `excused`: by the beginning of a command, what it
    may say when it fails."""

    def __init__(self, test, cloud, excused=None):
        self.test, self.cloud, self.excused = test, cloud, excused or {}
        self.folder = cloud.state / f"admin-{test.id().rsplit('.', 1)[1]}"
        self.folder.mkdir()

    def types(self, line):
        argv = [str(CLI), "--state-path", str(self.cloud.state), *shlex.split(line)[1:]]
        names = {key: value for key, value in os.environ.items() if not key.startswith("OS_")}
        run = subprocess.run(argv, cwd=self.folder, env=names, timeout=180, stdin=subprocess.DEVNULL,
                             capture_output=True, text=True)
        for beginning, reason in self.excused.items():
            if run.returncode and line.startswith(beginning):
                self.test.assertRegex(run.stderr, reason, line)
                print(f"{line}: {run.stderr.strip()}")
                return
        self.test.assertEqual(run.returncode, 0, f"{line}\n{run.stdout}{run.stderr}")

    def runs(self, page, prepare, as_here=lambda line: line):
        """as_here: a line with the names it has in the test. prepare: what makes a command possible, by the command's beginning; all of them must be on the page."""
        lines, used = commands_of(page), set()
        self.test.assertTrue(lines, page)
        for line in lines:
            for beginning in prepare:
                if line.startswith(beginning):
                    used.add(beginning)
                    prepare[beginning]()
            with self.test.subTest(page=page, command=line):
                self.types(as_here(line))
        self.test.assertEqual(used, set(prepare), f"{page} no longer shows them")
