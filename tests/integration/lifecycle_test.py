"""What an operator can do to a running machine, and what stays behind when its process dies."""
import os
import shutil
import signal
import subprocess
import sys
import time

import harness


def beats(guest):
    return guest.output().count("beat")


class Lifecycle(harness.Test):
    def beating(self, **members):
        guest = harness.Guest(self, harness.micro("hello"), "beat", **members)
        guest.expect("beat 1")
        return guest

    def test_pause_stops_the_guest_and_resume_continues_it(self):
        guest = self.beating()
        control = guest.control()
        self.assertEqual(control.call("state")["state"], "running")
        control.call("pause")
        self.assertEqual(control.call("state")["state"], "paused")
        before = beats(guest)
        time.sleep(0.5)  # the thing under test is that nothing happens in some time
        self.assertEqual(beats(guest), before)
        control.call("resume")
        guest.expect(f"beat {before + 2}")

    def test_a_guest_dies_with_the_test_that_started_it(self):
        folder = os.path.dirname(os.path.abspath(__file__))
        script = ("import harness, time\n"
                  "class T(harness.Test):\n"
                  "    def runTest(self): pass\n"
                  "guest = harness.Guest(T(), harness.micro('hello'), 'beat')\n"
                  "guest.expect('beat 1')\n"
                  "print(guest.process.pid, guest.control().call('hello')['pid'], guest.folder, flush=True)\n"
                  "time.sleep(60)\n")
        test = subprocess.Popen([sys.executable, "-c", script], cwd=folder, stdout=subprocess.PIPE, text=True)
        words = test.stdout.readline().split()
        self.addCleanup(shutil.rmtree, words[2], True)
        self.assertTrue(all(os.path.exists(f"/proc/{pid}") for pid in words[:2]))
        test.kill()
        test.wait()
        test.stdout.close()
        for pid in words[:2]:
            harness.wait_until(lambda: not os.path.exists(f"/proc/{pid}"), 10, f"the end of process {pid}")

    def test_pause_of_a_busy_guest_is_quick(self):
        guest = harness.Guest(self, harness.micro("hello"), "spin", vcpus=1)
        guest.expect("spin")
        control = guest.control()
        took = []
        for _ in range(20):
            begun = time.monotonic()
            control.call("pause")
            took.append(time.monotonic() - begun)
            control.call("resume")
        self.assertLess(sorted(took)[10], 0.05 * harness.SLOW, took)

    def test_pausing_twice_is_answered(self):
        guest = self.beating()
        control = guest.control()
        control.call("pause")
        answer = control.ask("pause")
        self.assertTrue("error" in answer or answer["result"]["state"] == "paused", answer)
        control.call("resume")
        guest.expect("beat")

    def test_operator_resets_the_guest(self):
        guest = self.beating()
        control = guest.control()
        control.call("subscribe")
        control.call("reset")
        control.wait_event("reset")
        guest.expect(">\\s+micro: hello beat 0")
        guest.expect("beat 2")

    def test_guest_resets_itself(self):
        guest = harness.Guest(self, harness.micro("hello"), "reset")
        for _ in range(3):
            guest.expect("micro: hello resets")
        guest.check_alive()

    def test_reboot_can_end_the_process(self):
        guest = harness.Guest(self, harness.micro("hello"), "reset", on_reboot="exit")
        self.assertEqual(guest.wait_exit(), 4, guest.story())

    def test_quit_ends_the_process_and_removes_its_sockets(self):
        guest = self.beating(pid_file="guest.pid")
        harness.wait_until(lambda: os.path.exists(guest.path("guest.pid")), 10, "the pid file")
        with open(guest.path("guest.pid")) as file:
            self.assertEqual(int(file.read()), guest.control().call("hello")["pid"])
        guest.control().call("quit")
        self.assertEqual(guest.wait_exit(), 0, guest.story())
        for name in ("control.sock", "console.sock", "guest.pid"):
            self.assertFalse(os.path.exists(guest.path(name)), name)

    def test_two_machines_cannot_write_one_disk(self):
        disks = [{"id": "d", "path": self.disk(4)}]
        first = self.beating(disks=disks)
        second = harness.Guest(self, harness.micro("hello"), "beat", disks=disks)
        self.assertEqual(second.wait_exit(), 1, second.story())
        self.assertIn(disks[0]["path"], second.story())
        first.expect("beat")

    def test_killed_process_leaves_no_lock_and_can_be_started_again(self):
        guest = self.beating(disks=[{"id": "d", "path": self.disk(4)}])
        pid = guest.control().call("hello")["pid"]
        guest.process.send_signal(signal.SIGKILL)
        guest.process.wait()
        harness.wait_until(lambda: not os.path.exists(f"/proc/{pid}"), 10, "the machine's end")
        beats_before = beats(guest)
        guest.start()
        harness.wait_until(lambda: beats(guest) > beats_before + 2, 20, "beats after the restart")
        self.assertEqual(guest.control().call("state")["state"], "running")

    def test_sigterm_presses_the_button_and_a_second_one_ends_it(self):
        guest = self.beating()
        guest.process.terminate()
        time.sleep(0.2)
        guest.check_alive()  # the guest does not react to the button; the grace period runs
        guest.process.terminate()
        self.assertEqual(guest.wait_exit(10), 0, guest.story())

    def test_unusable_configuration_is_refused_with_a_reason(self):
        guest = harness.Guest(self, "/nonexistent/kernel", start=False, memory_mib=64)
        guest.config["memroy_mib"] = 1
        guest.start()
        self.assertEqual(guest.wait_exit(10), 1)
        self.assertIn("memroy_mib", guest.story())
        del guest.config["memroy_mib"]
        guest.start()
        self.assertEqual(guest.wait_exit(10), 1)
        self.assertIn("/nonexistent/kernel", guest.story())


if __name__ == "__main__":
    harness.main()
