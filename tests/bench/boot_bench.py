#!/usr/bin/env python3
"""Start-up time and memory of kumoi-vmm against `qemu-system-x86_64 -M microvm -enable-kvm`, same payload,
same run, one after the other in turns (A B A B ...), medians.

  boot_first_byte   process start to the guest's first serial byte: tests/guests/micro/hello.c, 128 MiB
  memory_overhead   memory of its processes beyond the guest's RAM, 0.3 s after that byte
  bios_first_byte   process start to the first byte of stock SeaBIOS on the serial line (QEMU: -M q35), 128 MiB
  bios_boot_sector  the same to the first byte of a boot sector on a virtio disk
  bios_memory       as memory_overhead, after that byte
  boot_user_space   process start to Linux's first process: vmlinux and initrd of kumoi-tiny, 128 MiB

Prints one line each: name key=value ... Times in ms, memory in KiB. --check exits 1 when a goal is missed:
first byte at most 0.5 x QEMU's, at most 5120 KiB, with a BIOS 12288 KiB.
usage: boot_bench.py --vmm build/release/bin/kumoi-vmm --micro build/release/tests/guests/micro
"""
import argparse
import json
import os
import select
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

SOURCE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
MEMORY_MIB = 128
RATIO_MAX = 0.5
OVERHEAD_KIB_MAX = 5120
BIOS_OVERHEAD_KIB_MAX = 12288
BIOS = "/usr/share/seabios/bios-256k.bin"


def kumoi(vmm, folder, kernel, cmdline, initrd=None):
    boot = {"kernel": kernel, "cmdline": cmdline}
    if initrd:
        boot["initrd"] = initrd
    path = os.path.join(folder, "guest.json")
    with open(path, "w") as file:
        json.dump({"name": "bench", "memory_mib": MEMORY_MIB, "boot": boot}, file)
    return [vmm, "--config", path, "--serial", "stdio"]


def qemu(kernel, cmdline, initrd=None):
    # With ACPI, this machine has no interrupt for its serial port in a kernel without 8250 PNP; leaving
    # ACPI out only saves QEMU's guest time. arch-capabilities: KVM without that MSR makes QEMU 7.2 abort
    machine = "microvm,acpi=off" if initrd else "microvm"
    command = ["qemu-system-x86_64", "-M", machine, "-enable-kvm", "-cpu",
               "host,-arch-capabilities", "-m", str(MEMORY_MIB), "-nodefaults", "-no-reboot",
               "-display", "none", "-serial", "stdio", "-kernel", kernel, "-append", cmdline]
    return command + (["-initrd", initrd] if initrd else [])


def boot_disk(folder):
    """A disk whose boot sector writes "sector" to the serial line and halts."""
    text = b"sector"
    code = b"\xfa\xba\xf8\x03" + b"".join(b"\xb0" + bytes([byte]) + b"\xee" for byte in text) + b"\xf4\xeb\xfd"
    path = os.path.join(folder, "disk.raw")
    with open(path, "wb") as file:
        file.write(code.ljust(510, b"\0") + b"\x55\xaa")
        file.truncate(8 << 20)
    return path


def kumoi_bios(vmm, folder, disk):
    path = os.path.join(folder, "bios.json")
    with open(path, "w") as file:
        json.dump({"name": "bench", "memory_mib": MEMORY_MIB, "firmware": {"type": "bios", "code": BIOS},
                   "disks": [{"id": "root", "path": disk}]}, file)
    return [vmm, "--config", path, "--serial", "stdio"]


def qemu_bios(disk):
    return ["qemu-system-x86_64", "-M", "q35,graphics=off", "-enable-kvm", "-cpu", "host,-arch-capabilities",
            "-m", str(MEMORY_MIB), "-nodefaults", "-vga", "none", "-no-reboot", "-display", "none", "-bios", BIOS,
            "-serial", "stdio", "-drive", f"if=virtio,format=raw,file={disk},cache=none"]


def family(pid):
    """The process and its descendants: kumoi-vmm is a launcher and, in the sandbox, the machine."""
    with open(f"/proc/{pid}/task/{pid}/children") as file:
        return [pid] + [each for child in file.read().split() for each in family(int(child))]


def private_memory(pid):
    """(KiB without guest RAM, of which private and dirty, KiB of guest RAM), of a process and its descendants. What
    they share with each other counts once (Pss), files that processes of others map too do not count."""
    mine = family(pid)
    others = mapped_by_others(mine)
    return tuple(sum(part) for part in zip(*(process_memory(each, others) for each in mine)))


def mapped_by_others(mine):
    names = set()
    for pid in os.listdir("/proc"):
        if pid.isdigit() and int(pid) not in mine:
            try:
                with open(f"/proc/{pid}/maps") as file:
                    names.update(line.split()[5] for line in file if len(line.split()) > 5)
            except OSError:
                pass  # it has ended
    return names


def process_memory(pid, others):
    """As private_memory() of one process. Guest RAM is the memfd mapping, or an anonymous one of exactly the
    guest's size."""
    memory = dirty = ram = 0
    is_ram = False
    wanted = ("Pss:",)
    name = ""
    with open(f"/proc/{pid}/smaps") as file:
        for line in file:
            words = line.split()
            if not words[0].endswith(":"):
                name = words[5] if len(words) > 5 else ""
                wanted = ("Private_Clean:", "Private_Dirty:") if name.startswith("/") and name in others else ("Pss:",)
            elif words[0] == "Size:":
                is_ram = name.startswith("/memfd:") or int(words[1]) == MEMORY_MIB * 1024
            elif words[0] in wanted:
                ram += int(words[1]) if is_ram else 0
                memory += 0 if is_ram else int(words[1])
            if words[0] == "Private_Dirty:" and not is_ram:
                dirty += int(words[1])
    return memory, dirty, ram


def measure(command, wanted, timeout, with_memory=False):
    """Milliseconds until the bytes `wanted` came, and the memory then."""
    with tempfile.TemporaryFile() as errors:
        begun = time.monotonic_ns()
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                   stderr=errors, bufsize=0)
        try:
            output = b""
            while wanted not in output:
                left = timeout - (time.monotonic_ns() - begun) / 1e9
                readable = left > 0 and select.select([process.stdout], [], [], left)[0]
                piece = os.read(process.stdout.fileno(), 4096) if readable else b""
                if not piece:
                    errors.seek(0)
                    sys.exit(f"{command[0]}: no {wanted!r}\n{output[-500:]}\n{errors.read()[-1500:]}")
                output += piece
            ms = (time.monotonic_ns() - begun) / 1e6
            memory = None
            if with_memory:
                time.sleep(0.3)
                memory = private_memory(process.pid)
            return ms, memory
        finally:
            process.kill()
            process.wait()
            process.stdout.close()


def interleave(commands, wanted, runs, timeout, with_memory=False):
    results = {name: [] for name in commands}
    for _ in range(runs):
        for name, command in commands.items():
            results[name].append(measure(command, wanted, timeout, with_memory))
    return results


def report_times(name, results, digits):
    medians = {}
    text = ""
    for who, values in results.items():
        times = sorted(value[0] for value in values)
        medians[who] = statistics.median(times)
        text += f" {who}_ms={medians[who]:.{digits}f} {who}_min_ms={times[0]:.{digits}f}"
    ratio = medians["kumoi"] / medians["qemu"]
    runs = len(results["kumoi"])
    print(f"{name}{text} ratio={ratio:.3f} runs={runs} load={os.getloadavg()[0]:.1f}", flush=True)
    return ratio


def report_memory(name, results):
    overhead = {}
    text = ""
    for who, values in results.items():
        overhead[who] = statistics.median(value[1][0] for value in values)
        dirty = statistics.median(value[1][1] for value in values)
        ram = statistics.median(value[1][2] for value in values)
        text += f" {who}_kib={overhead[who]:.0f} {who}_dirty_kib={dirty:.0f} {who}_ram_kib={ram:.0f}"
    print(f"{name}{text} runs={len(results['kumoi'])}", flush=True)
    return overhead["kumoi"]


def linux_guest():
    parts = []
    for script, file in (("build.sh", "vmlinux"), ("make-root.sh", "initrd.cpio")):
        done = subprocess.run([os.path.join(SOURCE, "tests/guests/linux", script)],
                              stdout=subprocess.PIPE, text=True, check=True)
        parts.append(os.path.join(done.stdout.strip(), file))
    return parts


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--vmm", required=True, type=os.path.abspath)
    parser.add_argument("--micro", required=True, type=os.path.abspath)
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--bios-runs", type=int, default=5)
    parser.add_argument("--linux-runs", type=int, default=3)
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    if not os.access("/dev/kvm", os.R_OK | os.W_OK) or not shutil.which("qemu-system-x86_64"):
        print("SKIP: this needs /dev/kvm and qemu-system-x86_64")
        sys.exit(77)
    hello = os.path.join(options.micro, "hello.elf")
    with tempfile.TemporaryDirectory(prefix="kumoi-bench-") as folder:
        results = interleave({"kumoi": kumoi(options.vmm, folder, hello, "idle"),
                              "qemu": qemu(hello, "idle")}, b">", options.runs, 30, True)
        ratio = report_times("boot_first_byte", results, 1)
        overhead = report_memory("memory_overhead", results)
        bios_overhead = 0
        if os.path.exists(BIOS):
            disk = boot_disk(folder)
            commands = {"kumoi": kumoi_bios(options.vmm, folder, disk), "qemu": qemu_bios(disk)}
            report_times("bios_first_byte", interleave(commands, b"S", options.bios_runs, 60), 1)
            results = interleave(commands, b"sector", options.bios_runs, 60, True)
            report_times("bios_boot_sector", results, 1)
            bios_overhead = report_memory("bios_memory", results)
        else:
            print(f"SKIP: no {BIOS}: install seabios")
        if options.linux_runs > 0:
            kernel, initrd = linux_guest()
            cmdline = "console=ttyS0 quiet kumoi.noshell"
            report_times("boot_user_space", interleave(
                {"kumoi": kumoi(options.vmm, folder, kernel, cmdline, initrd),
                 "qemu": qemu(kernel, cmdline, initrd)},
                b"user space", options.linux_runs, 120), 0)
    if options.check and (ratio > RATIO_MAX or overhead > OVERHEAD_KIB_MAX or bios_overhead > BIOS_OVERHEAD_KIB_MAX):
        sys.exit(f"a goal was missed: ratio {ratio:.3f} (at most {RATIO_MAX}), "
                 f"overhead {overhead} KiB (at most {OVERHEAD_KIB_MAX}), "
                 f"with a BIOS {bios_overhead} KiB (at most {BIOS_OVERHEAD_KIB_MAX})")


if __name__ == "__main__":
    main()
