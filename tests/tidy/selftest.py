#!/usr/bin/env python3
"""Proves that each tidy check finds what it is there to find, on a small tree made for it."""
import pathlib
import subprocess
import tempfile
import unittest

import documented
import includes
import limits


class Tidy(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.root = pathlib.Path(self.folder.name)
        subprocess.run(["git", "init", "-q", self.folder.name], check=True)

    def tearDown(self):
        self.folder.cleanup()

    def write(self, name, text):
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def test_border_crossing_is_found(self):
        self.write("scheduler/a.cc", '#include "compute/b.h"\n')
        self.write("compute/b.h", '#include "scheduler/c.h"\n')
        self.write("scheduler/c.h", "#include <thread>\n")
        findings = includes.check(self.root)
        self.assertEqual(len(findings), 2)
        self.assertIn("scheduler may not include compute/b.h", findings[0])

    def test_third_party_headers_stay_in_their_place(self):
        self.write("compute/a.cc", "#include <rapidjson/document.h>\n")
        self.assertEqual(len(includes.check(self.root)), 1)

    def test_long_functions_files_and_lines_are_found(self):
        body = "    int x = 0;  // {\n" * 71
        self.write("base/a.cc", "namespace k {\nclass A {\n    void f() {\n" + body + "    }\n};\n}\n")
        self.write("base/b.cc", "int x;\n" * 801)
        self.write("base/c.cc", "// " + "x" * 100 + "\n")
        findings = limits.check(self.root)
        self.assertEqual([finding.split(":")[0] for finding in findings], ["base/a.cc", "base/b.cc", "base/c.cc"])

    def test_try_in_a_braced_list_is_found(self):
        self.write("base/a.cc", "void f() {\n    return A{g(1), TRY(h())};\n}\n")
        self.write("base/b.cc", "void f() {\n    x.push_back({name,\n        TRY(h())});\n}\n")
        self.write("base/c.cc", "void f() {\n    if (x) {\n        return g(1, TRY(h()));\n    }\n}\n")
        self.assertEqual([finding.split(":")[0] for finding in limits.check(self.root)], ["base/a.cc", "base/b.cc"])

    def test_short_functions_pass(self):
        self.write("base/a.cc", "void f() {\n    auto s = \"{{{\";\n    if (s) {\n    }\n}\n" * 20)
        self.assertEqual(limits.check(self.root), [])

    def test_undocumented_things_are_found(self):
        self.write("compute/README.md", "x")
        self.write("compute/o.cc", 'table.add({"compute", "speed", OptionType::Integer, "1", "Help."});\n'
                   'metrics.counter("kumoi_x_total", "Help.");\n')
        self.write("compute/dead.h", "")
        self.write("sim/a.cc", "")
        findings = documented.check(self.root)
        self.assertEqual(len(findings), 4, findings)


if __name__ == "__main__":
    unittest.main()
