#!/usr/bin/python3
"""The programs' own command lines, and the pages that are made from them."""
import pathlib
import re
import subprocess
import tempfile
import unittest

from cloud import BUILD, CLI, COMPUTE, ROOT, VMM


def run(*argv):
    return subprocess.run([str(word) for word in argv], capture_output=True, text=True, timeout=30)


class CommandLine(unittest.TestCase):
    def test_every_program_tells_its_version_and_help(self):
        for program in (COMPUTE, VMM, CLI, BUILD / "bin/kumoi-sim"):
            shown = run(program, "--version")
            self.assertEqual(shown.returncode, 0, program)
            self.assertRegex(shown.stdout, r"\d+\.\d+\.\d+")
        for program in (COMPUTE, VMM, CLI, BUILD / "bin/kumoi-sim"):
            self.assertEqual(run(program, "--help").returncode, 0, program)

    def test_unknown_arguments_are_usage_errors(self):
        for program in (COMPUTE, VMM, CLI, BUILD / "bin/kumoi-sim"):
            self.assertEqual(run(program, "--no-such-thing").returncode, 2, program)

    def test_the_options_page_is_what_the_program_says(self):
        page = (ROOT / "docs/reference/configuration.md").read_text()
        self.assertEqual(run(COMPUTE, "--describe-options").stdout, page,
                         "run kumoi-compute --describe-options > docs/reference/configuration.md")

    def test_the_sample_is_a_valid_configuration(self):
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "kumoi.conf"
            path.write_text(run(COMPUTE, "--sample-config").stdout)
            self.assertEqual(run(COMPUTE, "--check-config", path).returncode, 0)
            every_option = re.sub(r"(?m)^#([a-z_]+ = )", r"\1", path.read_text())
            path.write_text(every_option)
            checked = run(COMPUTE, "--check-config", path)
            self.assertEqual(checked.returncode, 0, checked.stderr)

    def test_a_wrong_configuration_is_refused_with_a_suggestion(self):
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "kumoi.conf"
            path.write_text("[DEFAULT]\nhostt = x\n")
            for argument in ("--check-config", "--config-file"):
                refused = run(COMPUTE, argument, path)
                self.assertEqual(refused.returncode, 2)
                self.assertIn("Did you mean host?", refused.stderr)

    def test_manual_pages_have_no_formatting_errors(self):
        for page in sorted((ROOT / "docs/man").iterdir()):
            checked = subprocess.run(["man", "--warnings", "-E", "UTF-8", "-l", "-Tutf8", "-Z", str(page)],
                                     stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
                                     env={"MANWIDTH": "100", "PATH": "/usr/bin:/bin"}, timeout=30)
            self.assertEqual(checked.stderr, "", page.name)


if __name__ == "__main__":
    unittest.main()
