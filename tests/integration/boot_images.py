"""Disk and CD images that a BIOS boots: GRUB from Debian's grub-pc-bin, a Linux kernel, a root file system.

GRUB's core image holds only the modules it needs and its commands inside, without `normal`: on a machine whose ring 0 is
emulated each module costs seconds. Made without root rights, loop devices or the internet.
"""
import os
import shutil
import struct
import subprocess
import tempfile

import harness

SECTOR = 512
PARTITION_START = 2048  # sectors: where every partitioning tool puts the first one


def need(*programs):
    for program in programs:
        if shutil.which(program) is None and not os.path.exists("/sbin/" + program):
            harness.skip(f"{program} is missing: install grub-common, grub-pc-bin, e2fsprogs, xorriso")
    if not os.path.isdir("/usr/lib/grub/i386-pc"):
        harness.skip("GRUB for BIOS is missing: install grub-pc-bin")


def core_image(target, prefix, commands, *modules):
    """GRUB that runs `commands` and nothing else."""
    with tempfile.TemporaryDirectory() as folder:
        config = os.path.join(folder, "embedded.cfg")
        core = os.path.join(folder, "core.img")
        with open(config, "w") as file:
            file.write(commands)
        harness.run("grub-mkimage", "-O", target, "-o", core, "-p", prefix, "-c", config, *modules)
        with open(core, "rb") as file:
            return file.read()


def debugfs(image, *commands):
    with tempfile.NamedTemporaryFile("w", suffix=".debugfs") as script:
        script.write("\n".join(commands) + "\n")
        script.flush()
        done = subprocess.run(["/sbin/debugfs", "-w", "-f", script.name, image], capture_output=True,
                              text=True, timeout=60)
    if done.returncode != 0:
        raise AssertionError(done.stderr)


def make_disk(path, kernel, root, cmdline):
    """An MBR disk: GRUB's boot sector, its core behind it, one partition with the root file system and the kernel."""
    need("grub-mkimage", "debugfs")
    with tempfile.NamedTemporaryFile(suffix=".ext2") as partition:
        shutil.copyfile(root, partition.name)
        debugfs(partition.name, "mkdir /boot", f"write {kernel} /boot/bzImage")
        with open(partition.name, "rb") as file:
            content = file.read()
    core = core_image("i386-pc", "(hd0,msdos1)/boot/grub",
                      "echo kumoi-grub: loading\nset root=(hd0,msdos1)\n"
                      f"linux /boot/bzImage {cmdline}\necho kumoi-grub: starting\nboot\n",
                      "biosdisk", "part_msdos", "ext2", "linux", "echo", "boot")
    assert len(core) <= (PARTITION_START - 1) * SECTOR
    with open("/usr/lib/grub/i386-pc/boot.img", "rb") as file:
        boot = bytearray(file.read(SECTOR))
    # GRUB's boot sector reads its core from sector 1 by default and takes the drive from the BIOS (0xff).
    entry = struct.pack("<B3sB3sII", 0x80, b"\x20\x21\0", 0x83, b"\xff\xff\xff", PARTITION_START,
                        len(content) // SECTOR)
    boot[446:510] = entry + bytes(48)
    boot[510:512] = b"\x55\xaa"
    with open(path, "wb") as disk:
        disk.write(boot)
        disk.write(core)
        disk.seek(PARTITION_START * SECTOR)
        disk.write(content)
    return path


def make_cd(path, kernel, cmdline, initrd=None):
    """An ISO 9660 image with an El Torito boot image that is GRUB."""
    need("grub-mkimage", "xorriso")
    commands = "echo kumoi-grub: loading\nset root=(cd)\n" f"linux /bzimage {cmdline}\n"
    if initrd:
        commands += "initrd /initrd\n"
    commands += "echo kumoi-grub: starting\nboot\n"
    core = core_image("i386-pc-eltorito", "(cd)/boot/grub", commands, "biosdisk", "iso9660", "linux", "echo", "boot")
    with tempfile.TemporaryDirectory() as folder:
        shutil.copyfile(kernel, os.path.join(folder, "bzimage"))
        if initrd:
            shutil.copyfile(initrd, os.path.join(folder, "initrd"))
        with open(os.path.join(folder, "eltorito.img"), "wb") as file:
            file.write(core)
        harness.run("xorriso", "-as", "mkisofs", "-quiet", "-R", "-V", "KUMOI_CD", "-b", "eltorito.img", "-no-emul-boot",
                    "-boot-load-size", "4", "-boot-info-table", "-o", path, folder)
    return path
