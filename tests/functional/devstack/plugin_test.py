#!/usr/bin/python3
"""A dry run of kumoi's DevStack plugin: every phase, in DevStack's order, against functions that write down how they
are called (stack_double.sh). What changes files really changes them, below a folder of the test."""
import configparser
import os
import pathlib
import shutil
import subprocess
import tempfile
import unittest

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[2]
PROGRAMS = ("kumoi-compute", "kumoi-vmm", "kumoi", "kumoi-img", "kumoi-relay")


class Plugin(unittest.TestCase):
    def setUp(self):
        self.fake = pathlib.Path(tempfile.mkdtemp(prefix="kumoi-devstack-"))
        self.addCleanup(shutil.rmtree, self.fake)
        # The clone that DevStack makes; only the plugin's own files are in it.
        clone = self.fake / "dest/kumoi"
        shutil.copytree(ROOT / "devstack", clone / "devstack", ignore=shutil.ignore_patterns("__pycache__"))
        self.built = clone / "build/release/bin"
        self.built.mkdir(parents=True)
        for name in PROGRAMS:
            (self.built / name).write_text(f'#!/bin/sh\necho "{name} $*" >>{self.fake}/started\n')
            (self.built / name).chmod(0o755)
        (self.fake / "hypervisors").write_text("thishost\n")

    def run_double(self, what, services="n-cpu tempest", **variables):
        environment = {"PATH": os.environ["PATH"], "FAKE": str(self.fake), "KUMOI_DIR": str(self.fake / "dest/kumoi"),
                       "INI": str(HERE / "ini.py"), "ENABLED_SERVICES": services, "KUMOI_DRIVER": "simulated",
                       "KUMOI_BIN_DIR": str(self.fake / "bin"), **variables}
        return subprocess.run(["bash", str(HERE / "stack_double.sh"), what], env=environment, capture_output=True, text=True,
                              timeout=60, check=False)

    def stack(self, **more):
        done = self.run_double("stack", **more)
        self.assertEqual(done.returncode, 0, done.stderr)
        return self.calls()

    def calls(self):
        return (self.fake / "calls").read_text().splitlines()

    def ini(self, name):
        parser = configparser.ConfigParser(interpolation=None)
        parser.read(self.fake / "etc" / name)
        return parser

    def between(self, calls, first, last):
        return calls[calls.index(first) + 1:calls.index(last)]

    def test_the_order_of_a_stack(self):
        calls = self.stack()
        self.assertEqual(calls[:2], ["VIRT_DRIVER kumoi", "define_plugin kumoi"])
        packages = self.between(calls, "phase stack pre-install", "lib/nova install")
        self.assertTrue(any(line.startswith("install_package") and "librabbitmq-dev" in line for line in packages), packages)
        build = self.between(calls, "phase stack install", "lib/nova create_conf")
        self.assertEqual(build[1:3], ["cmake --preset release", "cmake --build build/release --parallel 3 --target "
                                                                + " ".join(PROGRAMS)])
        configured = self.between(calls, "phase stack post-config", "lib/nova start")
        self.assertIn("iniset nova.conf DEFAULT mode openstack", configured)
        self.assertLess(calls.index("lib/nova start"), calls.index("phase stack extra"))

    def test_devstack_starts_kumoi_as_n_cpu(self):
        self.stack()
        self.assertEqual((self.fake / "started").read_text(), f"kumoi-compute --config-file {self.fake}/etc/nova/nova-cpu.conf\n")
        conf = self.ini("nova/nova-cpu.conf")
        self.assertEqual(dict(conf["DEFAULT"]), {"compute_driver": "simulated", "mode": "openstack",
                                                 "transport_url": "rabbit://stackrabbit:secret@127.0.0.1:5672/"})
        self.assertNotIn("database", conf)
        for name in PROGRAMS:
            self.assertTrue(os.access(self.fake / "bin" / name, os.X_OK), name)

    def test_stacking_twice_keeps_the_stock_program(self):
        self.stack()
        self.stack()
        self.assertIn("the stock one", (self.fake / "venv/bin/nova-compute.nova").read_text())

    def test_prebuilt_programs_are_not_built(self):
        calls = self.stack(KUMOI_PREBUILT=str(self.built))
        self.assertEqual([line for line in calls if line.startswith("cmake")], [])
        self.assertFalse(any("librabbitmq-dev" in line for line in calls))
        self.assertTrue((self.fake / "bin/kumoi-vmm").exists())

    def test_what_kumoi_cannot_do_is_off_in_tempest(self):
        self.stack()
        features = self.ini("tempest.conf")["compute-feature-enabled"]
        self.assertEqual(features["live_migration"], "False")
        self.assertNotIn("resize", features)

    def test_a_controller_keeps_its_nova(self):
        calls = self.stack(services="n-api tempest")
        self.assertFalse((self.fake / "venv/bin/nova-compute").exists())
        self.assertFalse((self.fake / "bin").exists())
        self.assertEqual([line for line in calls if "nova.conf" in line or "install_package" in line], [])
        self.assertIn("iniset tempest.conf compute-feature-enabled live_migration False", calls)

    def test_no_hypervisor_is_an_error(self):
        (self.fake / "hypervisors").write_text("")
        done = self.run_double("stack")
        self.assertEqual(done.returncode, 3)
        self.assertIn("no hypervisor is registered", done.stderr)

    def test_prebuilt_programs_that_are_not_there_are_refused_first(self):
        done = self.run_double("stack", KUMOI_PREBUILT="/nowhere")
        self.assertEqual(done.returncode, 3)
        self.assertIn("/nowhere has no kumoi-compute", done.stderr)
        self.assertFalse(any(line.startswith("install_package") for line in self.calls()))

    @unittest.skipIf(os.path.exists("/dev/kvm"), "there is /dev/kvm here")
    def test_guests_without_kvm_are_refused_first(self):
        done = self.run_double("stack", KUMOI_DRIVER="kumoi")
        self.assertIn("/dev/kvm is missing", done.stderr)

    def test_unstack_ends_the_guests_of_this_devstack_only(self):
        self.stack()
        guests = []
        for folder in (self.fake / "data/nova/instances/1", self.fake / "another/2"):
            folder.mkdir(parents=True)
            # A stand-in with the command line of a guest.
            guests.append(subprocess.Popen(
                ["bash", "-c", f"exec -a /usr/local/bin/kumoi-vmm bash -c 'echo; read' --config {folder}/config.json"],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE))
            self.addCleanup(guests[-1].wait)
            self.addCleanup(guests[-1].kill)
            self.addCleanup(guests[-1].stdout.close)
            self.addCleanup(guests[-1].stdin.close)
            guests[-1].stdout.readline()
        done = self.run_double("unstack")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(guests[0].wait(20), -15)
        self.assertIsNone(guests[1].poll())
        self.assertIn("the stock one", (self.fake / "venv/bin/nova-compute").read_text())
        self.assertTrue((self.fake / "bin/kumoi-vmm").exists())

    def test_clean_leaves_nothing(self):
        self.stack()
        done = self.run_double("clean")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(list((self.fake / "bin").iterdir()), [])
        self.assertEqual([path.name for path in (self.fake / "venv/bin").iterdir()], ["nova-compute"])
        self.assertFalse((self.fake / "dest/kumoi/build/release").exists())


if __name__ == "__main__":
    unittest.main(verbosity=2)
