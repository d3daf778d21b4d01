"""A running machine seen from outside: what its process still has, and what it no longer has."""
import os
import re
import signal
import stat
import subprocess

import harness

OWN_USERS = 0x70000000  # docs/reference/sandbox.md


def status(pid):
    with open(f"/proc/{pid}/status") as file:
        return dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)


def descriptors(pid):
    """What each descriptor is, without numbers: "socket:", "anon_inode:[eventfd]", "/path"."""
    folder = f"/proc/{pid}/fd"
    names = {int(fd): os.readlink(os.path.join(folder, fd)) for fd in os.listdir(folder)}
    return {fd: re.sub(r":\[\d+\]$", ":", name) for fd, name in names.items()}


def alive(pid):
    return os.path.exists(f"/proc/{pid}")


class Sandbox(harness.Test):
    def setUp(self):
        harness.need_root()

    def beating(self, *options, **members):
        guest = harness.Guest(self, harness.micro("hello"), "beat", start=False, **members)
        with open(guest.path("guest.json"), "w") as file:
            harness.json.dump(guest.config, file)
        leaked = os.open("/etc", os.O_RDONLY)  # a careless caller's
        with open(guest.path("vmm.log"), "ab") as log:
            guest.process = subprocess.Popen(
                [harness.VMM, "--config", guest.path("guest.json"), *options],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, pass_fds=[leaked],
                preexec_fn=harness.keeper.end_with_me)
        os.close(leaked)
        self.addCleanup(guest.kill)
        guest.expect("beat 1")
        return guest, guest.control().call("hello")["pid"]

    def test_the_machine_has_nothing_it_does_not_need(self):
        disk = self.disk(4)
        everything = ["pid", "mount", "network", "ipc", "user", "caps", "seccomp"]
        guest, pid = self.beating(disks=[{"id": "d", "path": disk}],
                                  sandbox={"require": everything})
        self.assertNotEqual(pid, guest.process.pid)
        now = status(pid)
        self.assertEqual(set(now["Uid"].split()), set(now["Gid"].split()))
        self.assertEqual({int(uid) for uid in now["Uid"].split()}, {OWN_USERS + pid})
        self.assertEqual(now["Groups"].strip(), "")
        self.assertEqual(now["NSpid"].split(), [str(pid), "1"])
        for capabilities in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
            self.assertEqual(int(now[capabilities], 16), 0, capabilities)
        for thread in os.listdir(f"/proc/{pid}/task"):
            mine = status(f"{pid}/task/{thread}")
            self.assertEqual((mine["NoNewPrivs"], mine["Seccomp"]), ("1", "2"), mine["Name"])
            filters = 2 if mine["Name"].startswith(("vcpu", "rng", "d")) else 1
            self.assertGreaterEqual(int(mine["Seccomp_filters"]), filters, mine["Name"])
        self.assertEqual(os.listdir(f"/proc/{pid}/root"), [])
        for kind in ("mnt", "pid", "net", "ipc", "uts", "cgroup"):
            self.assertNotEqual(os.readlink(f"/proc/{pid}/ns/{kind}"),
                                os.readlink(f"/proc/self/ns/{kind}"), kind)
        with open(f"/proc/{pid}/maps") as file:
            for line in file:
                self.assertNotRegex(line.split()[1], "wx", line)
        with open(f"/proc/{pid}/mountinfo") as file:
            mounts = file.read().splitlines()
        self.assertEqual(len(mounts), 1, mounts)
        self.assertIn(" ro,", mounts[0])

    def test_only_its_own_descriptors_are_open(self):
        disk = self.disk(4)
        guest, pid = self.beating(disks=[{"id": "d", "path": disk}])
        expected = ("socket:", "anon_inode:", "/memfd:", "/dev/kvm", "/dev/userfaultfd", disk, guest.path("vmm.log"),
                    guest.path("console.log"), harness.micro("hello"))
        for fd, name in descriptors(pid).items():
            if fd == 0:
                self.assertEqual(name, "/dev/null")
                continue
            self.assertTrue(name.startswith(expected), f"{fd}: {name}")
            self.assertFalse(stat.S_ISDIR(os.stat(f"/proc/{pid}/fd/{fd}").st_mode), name)
        # The launcher holds nothing of the guest's: its disk is free as soon as the machine ends.
        held = set(descriptors(guest.process.pid).values())
        self.assertLessEqual(held, {"/dev/null", guest.path("vmm.log"), "anon_inode:[signalfd]"})

    def test_the_end_of_either_is_the_end_of_both(self):
        guest, pid = self.beating()
        os.kill(pid, signal.SIGKILL)
        self.assertEqual(guest.wait_exit(), -signal.SIGKILL)
        self.assertIn("was killed", guest.story())
        self.assertFalse(os.path.exists(guest.path("control.sock")))
        guest, pid = self.beating()
        guest.process.kill()
        guest.process.wait()
        harness.wait_until(lambda: not alive(pid), 10, "the end of the machine")

    def test_signals_reach_the_machine_once(self):
        guest, pid = self.beating()
        os.kill(pid, signal.SIGTERM)  # and to the other, as systemd does it: to all of them
        harness.wait_until(lambda: "signal number=15" in guest.story(), 10, "the first")
        guest.process.terminate()
        harness.wait_until(lambda: guest.story().count("signal number=15") == 2, 10, "both")
        guest.control().call("state")
        guest.process.terminate()
        self.assertEqual(guest.wait_exit(10), 0, guest.story())

    def test_a_full_console_log_is_copied(self):
        guest = harness.Guest(self, harness.micro("hello"), "beat", start=False)
        guest.config["serial"]["log_size_max"] = 4096
        with open(guest.path("console.log"), "w") as file:
            file.write("earlier\n" * 512)
        guest.start()
        harness.wait_until(lambda: os.path.getsize(guest.path("console.log")) < 4096, 20,
                           "an emptied log")
        with open(guest.path("console.log.1")) as file:
            self.assertTrue(file.read().startswith("earlier\n"))
        guest.check_alive()

    def test_it_can_be_turned_off_and_says_so(self):
        guest, pid = self.beating("--sandbox", "off")
        self.assertEqual(pid, guest.process.pid)
        self.assertEqual(status(pid)["Seccomp"], "0")
        self.assertIn("sandbox off", guest.story())


if __name__ == "__main__":
    harness.main()
