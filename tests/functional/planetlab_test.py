"""kumoi-sim planetlab: the numbers of CloudSim 3.0.3 on every day, and clear words for wrong input."""
import csv
import json
import lzma
import os
import pathlib
import subprocess
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
SIM = pathlib.Path(os.environ["KUMOI_BUILD"]) / "bin/kumoi-sim"
DATA = ROOT / "tests/data/planetlab"
TRACES = DATA / "planetlab-10days.csv.xz"


def simulate(*words, traces=TRACES):
    return subprocess.run([SIM, "planetlab", "--traces", str(traces), *words],
                          capture_output=True, text=True, timeout=300)


def runs(*words, traces=TRACES):
    done = simulate("--format", "json", *words, traces=traces)
    if done.returncode != 0:
        raise AssertionError(done.stderr)
    return [json.loads(line) for line in done.stdout.splitlines()]


def trace_line(day, name, sample):
    return f"{day},{name}," + " ".join([str(sample)] * 288) + "\n"


class CloudSim(unittest.TestCase):
    def test_every_day_and_policy_is_what_cloudsim_printed(self):
        with open(DATA / "cloudsim-3.0.3.csv", encoding="ascii") as file:
            rows = list(csv.DictReader(file))
        policies = sorted({row["policy"] for row in rows})
        found = {(run["day"], run["policy"]): run
                 for run in runs("--day", "all", "--policy", ",".join(policies), "--jobs", "2")}
        self.assertGreater(len(rows), 50)
        for row in rows:
            run = found[row["day"], row["policy"]]
            with self.subTest(day=row["day"], policy=row["policy"]):
                shown = {"machines": str(run["machines"]), "energy_kwh": f"{run['energy_kwh']:.2f}",
                         "migrations": str(run["migrations"]), "slav_pct": f"{run['slav_pct']:.5f}",
                         "pdm_pct": f"{run['pdm_pct']:.2f}", "slatah_pct": f"{run['slatah_pct']:.2f}",
                         "host_shutdowns": str(run["host_shutdowns"])}
                self.assertEqual(shown, {key: row[key] for key in shown})


class Modes(unittest.TestCase):
    def test_threads_change_nothing_and_seeds_only_the_random_selector(self):
        words = ("--day", "20110306", "--policy", "lr-rs,thr-mmt")
        once = runs(*words, "--jobs", "1")
        self.assertEqual(runs(*words, "--jobs", "3"), once)
        other = runs(*words, "--seed", "2")
        self.assertNotEqual(other[0]["migrations"], once[0]["migrations"])
        self.assertEqual(other[1]["migrations"], once[1]["migrations"])

    def test_the_fixed_mode_counts_the_whole_day_and_tells_lr_from_lrr(self):
        npa, loess, robust = runs("--day", "20110306", "--policy", "npa,lr-mmt,lrr-mmt", "--mode", "fixed")
        self.assertEqual(npa["energy_kwh"], 2419.2)  # 800 hosts, 126 W on average, 24 hours
        self.assertNotEqual(loess["energy_kwh"], robust["energy_kwh"])
        quirky = runs("--day", "20110306", "--policy", "lr-mmt")[0]
        self.assertLess(loess["energy_kwh"], quirky["energy_kwh"])
        self.assertLess(loess["host_shutdowns"], quirky["host_shutdowns"])

    def test_a_folder_of_files_is_read_as_the_file_is(self):
        with tempfile.TemporaryDirectory() as folder:
            day = pathlib.Path(folder) / "20110306"
            day.mkdir()
            with lzma.open(TRACES, "rt") as file:
                for line in file:
                    name, samples = line.rstrip("\n").split(",")[1:]
                    if line.startswith("20110306,"):
                        (day / name).write_text(samples.replace(" ", "\n") + "\n")
            self.assertEqual(runs("--day", "all", "--policy", "dvfs", traces=folder),
                             runs("--day", "20110306", "--policy", "dvfs"))


class WrongInput(unittest.TestCase):
    def refused(self, words, text, traces=TRACES, code=1):
        done = simulate(*words, traces=traces)
        self.assertEqual(done.returncode, code, done.stderr)
        self.assertIn(text, done.stderr)

    def test_names_that_do_not_exist_get_the_nearest(self):
        self.refused(("--day", "20110306", "--policy", "lr-mnt"), 'did you mean "lr-mmt"?')
        self.refused(("--day", "20110307", "--policy", "npa"), "it has 20110303, 20110306")
        self.refused(("--day", "all", "--policy", "npa"), "/nowhere cannot be opened", traces="/nowhere")
        self.refused(("--day", "all", "--policy", "npa", "--mode", "simple"), "simple", code=2)

    def test_damaged_traces_are_refused_with_file_and_line(self):
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "traces"
            words = ("--day", "d", "--policy", "npa")
            path.write_text(trace_line("d", "a", 1) + trace_line("d", "b", 101))
            self.refused(words, f'{path} line 2: expected a sample from 0 to 100, found "101', traces=path)
            path.write_text(trace_line("d", "a", 1).rsplit(" ", 1)[0] + "\n")
            self.refused(words, "line 1: 287 samples, expected 288", traces=path)
            path.write_bytes(TRACES.read_bytes()[:100000])
            self.refused(words, "it ends in the middle", traces=path)
            damaged = bytearray(TRACES.read_bytes())
            damaged[50000] ^= 0xff
            path.write_bytes(damaged)
            self.refused(words, "is not a whole .xz file", traces=path)


if __name__ == "__main__":
    unittest.main()
