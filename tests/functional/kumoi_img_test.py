"""kumoi-img and QEMU's tools understand each other's images, and agree about what is broken."""
import itertools
import json
import os
import random
import struct
import subprocess
import sys
import tempfile
import unittest

IMG = os.path.join(os.environ.get("KUMOI_BUILD", "build/release"), "bin", "kumoi-img")
SIZE = 12 << 20


def run(*words, code=0):
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode != code:
        raise AssertionError(f"{' '.join(words)}: {done.returncode}, not {code}\n{done.stdout}{done.stderr}")
    return done.stdout + done.stderr


def img(*words, code=0):
    return run(IMG, *words, code=code)


def qemu(*words, code=0):
    return run("qemu-img", *words, code=code)


class ImageTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="kumoi-img-")
        self.addCleanup(folder.cleanup)
        self.folder = folder.name
        self.random = random.Random(7)

    def path(self, name):
        return os.path.join(self.folder, name)

    def write_raw(self, name, pieces=40, size=SIZE):
        """A sparse raw file with pieces of data that compress, and some that do not."""
        with open(self.path(name), "wb") as file:
            file.truncate(size)
            for _ in range(pieces):
                file.seek(self.random.randrange(size // 512) * 512)
                length = min(self.random.choice([512, 4096, 65536, 200000]), size - file.tell())
                file.write(self.random.randbytes(length) if self.random.random() < .5
                           else (b"kumoi" * length)[:length])
        return self.path(name)

    def scribble(self, image, count=30, size=SIZE):
        """Random writes, zeroings and discards by QEMU."""
        commands = []
        for _ in range(count):
            offset = self.random.randrange(size // 512) * 512
            length = min(self.random.choice([512, 4096, 65536, 300032]), size - offset)
            verb = self.random.choice(["write -P 0x%02x" % self.random.randrange(1, 255)] * 3
                                      + ["write -z", "write -z -u", "discard"])
            commands += ["-c", f"{verb} {offset} {length}"]
        run("qemu-io", "-f", "qcow2", "-d", "unmap", *commands, image)

    def same(self, first, first_format, second, second_format):
        qemu("compare", "-f", first_format, "-F", second_format, first, second)

    def sound(self, image):
        img("check", image)
        qemu("check", "-f", "qcow2", image)


class Interoperation(ImageTest):
    def test_qemu_images_of_every_kind_are_read(self):
        options = [
            "compat=0.10", "compat=0.10,cluster_size=512", "cluster_size=512", "cluster_size=2M",
            "cluster_size=4k,refcount_bits=1", "refcount_bits=2", "refcount_bits=8", "refcount_bits=32",
            "refcount_bits=64,cluster_size=1k", "lazy_refcounts=on", "extended_l2=on",
            "extended_l2=on,cluster_size=16k", "extended_l2=on,cluster_size=2M", "compression_type=zstd",
            "preallocation=metadata", "preallocation=falloc,extended_l2=on"]
        for number, option in enumerate(options):
            with self.subTest(option=option):
                image = self.path(f"q{number}.qcow2")
                qemu("create", "-q", "-f", "qcow2", "-o", option, image, str(SIZE))
                self.scribble(image)
                img("check", image)
                raw = self.path(f"q{number}.raw")
                img("convert", "-O", "raw", image, raw)
                self.same(image, "qcow2", raw, "raw")

    def test_compressed_images_of_qemu_are_read(self):
        raw = self.write_raw("c.raw")
        for number, option in enumerate(["compression_type=zlib", "compression_type=zstd",
                                         "compression_type=zstd,extended_l2=on", "cluster_size=2M",
                                         "cluster_size=512", "compat=0.10"]):
            with self.subTest(option=option):
                image = self.path(f"c{number}.qcow2")
                qemu("convert", "-q", "-c", "-f", "raw", "-O", "qcow2", "-o", option, raw, image)
                img("check", image)
                back = self.path(f"c{number}.raw")
                img("convert", "-O", "raw", image, back)
                with open(raw, "rb") as one, open(back, "rb") as two:
                    self.assertEqual(one.read(), two.read())

    def test_our_images_are_read_by_qemu(self):
        raw = self.write_raw("o.raw")
        options = [
            [], ["--version", "2"], ["--cluster-size", "512"], ["--cluster-size", "2M"],
            ["--refcount-bits", "1"], ["--refcount-bits", "64", "--cluster-size", "1K"], ["--extended-l2"],
            ["--lazy-refcounts"], ["--compression", "zstd"]]
        for number, (option, compress) in enumerate(itertools.product(options, [[], ["-c"]])):
            with self.subTest(option=option, compress=compress):
                image = self.path(f"o{number}.qcow2")
                img("convert", "-f", "raw", "-O", "qcow2", *option, *compress, raw, image)
                self.sound(image)
                self.same(raw, "raw", image, "qcow2")
                if not compress or number < 4:
                    self.scribble(image)
                    img("check", image)

    def test_compression_makes_images_smaller(self):
        raw = self.path("zip.raw")
        with open(raw, "wb") as file:
            file.write(b"kumoi makes clouds " * 200000)
            file.truncate(SIZE)
        for method in ["zlib", "zstd"]:
            image = self.path(method)
            img("convert", "-f", "raw", "-O", "qcow2", "-c", "--compression", method, raw, image)
            self.assertLess(os.path.getsize(image), 600000)
            self.sound(image)
            self.same(raw, "raw", image, "qcow2")

    def test_preallocated_metadata(self):
        image = self.path("pre.qcow2")
        img("create", "--preallocation", "metadata", image, "64M")
        self.sound(image)
        self.assertEqual(json.loads(img("check", "--json", image))["allocated_clusters"], 1024)

    def test_snapshots_of_qemu_are_respected(self):
        image = self.path("snap.qcow2")
        qemu("create", "-q", "-f", "qcow2", image, str(SIZE))
        self.scribble(image)
        before = self.path("before.raw")
        qemu("convert", "-f", "qcow2", "-O", "raw", image, before)
        qemu("snapshot", "-c", "first", image)
        # Our writes copy what the snapshot shares: a commit of an overlay writes into the image.
        overlay = self.path("over.qcow2")
        img("create", "-b", "snap.qcow2", "-F", "qcow2", overlay)
        self.scribble(overlay, 60)
        flat = self.path("flat.raw")
        img("convert", "-O", "raw", overlay, flat)
        img("commit", overlay)
        self.sound(image)
        self.same(flat, "raw", image, "qcow2")
        self.assertEqual(json.loads(img("info", "--json", image))["snapshots"][0]["name"], "first")
        qemu("snapshot", "-a", "first", image)
        self.same(before, "raw", image, "qcow2")
        qemu("snapshot", "-d", "first", image)
        self.sound(image)


class Chains(ImageTest):
    def chain(self):
        self.write_raw("base.raw")
        img("create", "-b", "base.raw", "-F", "raw", self.path("middle.qcow2"))
        self.scribble(self.path("middle.qcow2"))
        img("create", "-b", "middle.qcow2", "-F", "qcow2", "--extended-l2", self.path("top.qcow2"))
        self.scribble(self.path("top.qcow2"))
        return self.path("top.qcow2")

    def test_chain_flattened(self):
        top = self.chain()
        flat = self.path("flat.qcow2")
        img("convert", "-O", "qcow2", top, flat)
        self.sound(flat)
        self.same(top, "qcow2", flat, "qcow2")
        chain = json.loads(img("info", "--json", "--backing-chain", top))
        self.assertEqual([entry["format"] for entry in chain], ["qcow2", "qcow2", "raw"])

    def test_map_agrees_with_qemu(self):
        top = self.chain()
        ours = json.loads(img("map", "--json", top))
        theirs = json.loads(qemu("map", "--output=json", "-f", "qcow2", top))
        data = bytearray(SIZE // 512)
        for extent in theirs:
            if extent["data"]:
                for sector in range(extent["start"] // 512, (extent["start"] + extent["length"]) // 512):
                    data[sector] = 1 + extent["depth"]
        for extent in ours:
            for sector in range(extent["offset"] // 512, (extent["offset"] + extent["size"]) // 512):
                expected = 0 if extent["kind"] == "zero" else 1 + extent["depth"]
                self.assertEqual(data[sector], expected, f"sector {sector} of {extent}")

    def test_commit(self):
        top = self.chain()
        flat = self.path("flat.raw")
        img("convert", "-O", "raw", top, flat)
        img("commit", top)
        self.sound(self.path("middle.qcow2"))
        self.sound(top)
        self.same(flat, "raw", self.path("middle.qcow2"), "qcow2")
        self.same(flat, "raw", top, "qcow2")
        img("commit", self.path("middle.qcow2"))
        self.same(flat, "raw", self.path("base.raw"), "raw")

    def test_rebase(self):
        top = self.chain()
        flat = self.path("flat.raw")
        img("convert", "-O", "raw", top, flat)
        for target, kind in [("base.raw", "raw"), ("", "")]:
            img("rebase", "-b", target, "-F", kind, top)
            self.sound(top)
            self.same(flat, "raw", top, "qcow2")
        self.assertNotIn("backing_file", json.loads(img("info", "--json", top)))

    def test_loops_depth_and_formats_are_refused(self):
        one, two = self.path("one.qcow2"), self.path("two.qcow2")
        img("create", one, "1M")
        img("create", "-b", "one.qcow2", "-F", "qcow2", two)
        img("rebase", "--unsafe", "-b", "two.qcow2", "-F", "qcow2", one)
        self.assertIn("own backing file", img("map", two, code=1))
        last = self.path("d0.qcow2")
        img("create", last, "1M")
        for depth in range(1, 36):
            name = self.path(f"d{depth}.qcow2")
            qemu("create", "-q", "-u", "-f", "qcow2", "-b", f"d{depth - 1}.qcow2", "-F", "qcow2", name, "1M")
        self.assertIn("33 are allowed", img("map", self.path("d35.qcow2"), code=1))
        self.assertIn("format", img("create", "-b", "one.qcow2", self.path("x"), code=1))
        qemu("create", "-q", "-u", "-f", "qcow2", "-b", "nbd://host/x", "-F", "raw", self.path("n.qcow2"), "1M")
        self.assertIn("only files", img("map", self.path("n.qcow2"), code=1))


class Changes(ImageTest):
    def test_resize(self):
        for option in [[], ["--cluster-size", "512"], ["--extended-l2"], ["--version", "2"]]:
            with self.subTest(option=option):
                image = self.path("r" + "".join(option) + ".qcow2")
                img("create", *option, image, str(SIZE))
                self.scribble(image)
                raw = self.path("r.raw")
                if os.path.exists(raw):
                    os.remove(raw)
                img("convert", "-O", "raw", image, raw)
                for size in [SIZE + 512, SIZE * 20, SIZE * 3, SIZE // 2 + 1024, SIZE]:
                    img("resize", "--shrink", image, str(size))
                    os.truncate(raw, size)
                    self.sound(image)
                    self.same(image, "qcow2", raw, "raw")
        self.assertIn("--shrink", img("resize", image, "1M", code=1))

    def test_growing_does_not_show_the_backing_file(self):
        with open(self.path("big.raw"), "wb") as file:
            file.write(b"x" * SIZE)
        overlay = self.path("small.qcow2")
        img("create", "-b", "big.raw", "-F", "raw", overlay, "1M")
        img("resize", overlay, "2M")
        raw = self.path("flat.raw")
        img("convert", "-O", "raw", overlay, raw)
        with open(raw, "rb") as file:
            self.assertEqual(file.read(), b"x" * (1 << 20) + b"\0" * (1 << 20))

    def test_bitmaps_survive_and_agree_with_qemu(self):
        image = self.path("b.qcow2")
        img("create", image, str(SIZE))
        qemu("bitmap", "--add", "-g", "64K", image, "theirs")
        img("bitmap", "add", "--granularity", "32K", image, "ours")
        self.sound(image)
        run("qemu-io", "-f", "qcow2", "-c", "write 1M 100K", image)
        bitmaps = {entry["name"]: entry for entry in json.loads(img("bitmap", "list", image))}
        self.assertEqual(bitmaps["theirs"]["dirty_bytes"], 128 << 10)
        self.assertEqual(bitmaps["ours"]["dirty_bytes"], 128 << 10)
        overlay = self.path("bo.qcow2")
        img("create", "-b", "b.qcow2", "-F", "qcow2", overlay)
        run("qemu-io", "-f", "qcow2", "-c", "write 4M 64K", overlay)
        img("commit", overlay)  # writes through our engine: both record it
        img("bitmap", "merge", image, "ours", "theirs")
        self.sound(image)
        bitmaps = {entry["name"]: entry for entry in json.loads(img("bitmap", "list", image))}
        self.assertEqual(bitmaps["theirs"]["dirty_bytes"], 192 << 10)
        self.assertEqual(bitmaps["ours"]["dirty_bytes"], 192 << 10)
        img("bitmap", "remove", image, "theirs")
        self.sound(image)
        qemu("bitmap", "--remove", image, "ours")
        self.sound(image)

    def test_leaks_and_errors_are_found_and_mended(self):
        image = self.path("l.qcow2")
        img("create", image, str(SIZE))
        self.scribble(image)
        with open(image, "r+b") as file:
            header = file.read(104)
            table, = struct.unpack_from(">Q", header, 48)
            file.seek(table)
            block, = struct.unpack(">Q", file.read(8))
            used = os.path.getsize(image) // 65536
            file.seek(block + used * 2 + 20)
            file.write(struct.pack(">H", 1))  # nobody uses it
        self.assertIn("1 leaked", img("check", image, code=3))
        img("check", "--repair", "leaks", image)
        self.sound(image)
        with open(image, "r+b") as file:
            file.seek(block + (used - 1) * 2)
            file.write(struct.pack(">H", 0))
        img("check", image, code=2)
        img("check", "--repair", "all", image)
        self.sound(image)

    def test_what_is_not_supported_is_named(self):
        secret = ["--object", "secret,id=s,data=x", "-o", "encrypt.format=luks,encrypt.key-secret=s"]
        qemu("create", "-q", "-f", "qcow2", *secret, self.path("e.qcow2"), "1M")
        self.assertIn("encrypted", img("info", self.path("e.qcow2"), code=1))
        qemu("create", "-q", "-f", "qcow2", "-o", f"data_file={self.path('d.raw')}", self.path("d.qcow2"), "1M")
        self.assertIn("external data file", img("info", self.path("d.qcow2"), code=1))
        image = self.path("f.qcow2")
        img("create", image, "1M")
        with open(image, "r+b") as file:
            file.seek(79)
            file.write(b"\x40")
        self.assertIn("incompatible features", img("info", image, code=1))
        self.assertIn("did you mean", img("create", "--cluster-sice", "1K", image, "1M", code=1))


if __name__ == "__main__":
    if not os.path.exists(IMG):
        print(f"skipped: {IMG} is not built")
        sys.exit(77)
    unittest.main()
