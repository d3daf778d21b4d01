"""The qcow2 engine beside QEMU's on the same file: `qemu-img bench` and qcow2_bench in turns, three rounds, the best
of each. QEMU runs with aio=io_uring where it can (-i io_uring) and with its threads; its better figure counts.

    python3 tests/bench/qcow2_bench.py --bench build/release/tests/bench/qcow2_bench --img build/release/bin/kumoi-img
"""
import argparse
import os
import re
import subprocess
import tempfile

SIZE = 512 << 20
BLOCK = 4096


def run(*words):
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(words)}: {done.stderr}")
    return done.stdout


def qemu(image, write, sequential, depth, count, block, engine, cache):
    words = ["qemu-img", "bench", "-f", "qcow2", "-c", str(count), "-d", str(depth), "-s", str(block),
             "-t", cache, "-i", engine]
    words += ["-S", str(block if sequential else stride(block))]
    if write:
        words += ["-w", "--flush-interval", str(count), "--no-drain"]
    return float(re.search(r"Run completed in ([0-9.]+)", run(*words, image)).group(1))


def stride(block):
    """qemu-img bench knows no random offsets: a large odd step over the disk stands for them."""
    return block * 7919


def ours(bench, image, write, sequential, depth, count, block, cache):
    return float(run(bench, image, "write" if write else "read", "sequential" if sequential else "random",
                     str(depth), str(count), str(block), *(["none"] if cache == "none" else [])))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--bench", required=True)
    parser.add_argument("--img", required=True)
    parser.add_argument("--count", type=int, default=20000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--cache", default="writeback")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="qcow2-bench-", dir=os.environ.get("TMPDIR", "/var/tmp")) as folder:
        full = os.path.join(folder, "full.qcow2")
        run(options.img, "create", full, str(SIZE))
        run("qemu-io", "-f", "qcow2", "-c", f"write -P 90 0 {SIZE}", full)
        base = os.path.join(folder, "base.qcow2")
        os.link(full, base)
        for kind in ["allocated", "fresh", "clone"]:
            for write in ([False, True] if kind == "allocated" else [True]):
                for sequential in [False, True]:
                    for depth in [1, 32]:
                        line(options, folder, full, kind, write, sequential, depth)


def prepare(options, folder, full, kind):
    if kind == "allocated":
        return full
    image = os.path.join(folder, f"{kind}.qcow2")
    if os.path.exists(image):
        os.remove(image)
    backing = ["-b", "base.qcow2", "-F", "qcow2"] if kind == "clone" else []
    run(options.img, "create", *backing, image, *([] if backing else [str(SIZE)]))
    return image


def line(options, folder, full, kind, write, sequential, depth):
    count = options.count if kind == "allocated" else options.count // 4
    best = {"ours": 1e9, "qemu": 1e9}
    for _ in range(options.rounds):
        image = prepare(options, folder, full, kind)
        best["ours"] = min(best["ours"], ours(options.bench, image, write, sequential, depth, count, BLOCK,
                                              options.cache))
        for engine in ["threads", "io_uring"]:
            image = prepare(options, folder, full, kind)
            best["qemu"] = min(best["qemu"], qemu(image, write, sequential, depth, count, BLOCK, engine,
                                                  options.cache))
    per_second = {name: count / seconds for name, seconds in best.items()}
    print(f"qcow2 {kind:9} {'sequential' if sequential else 'random':10} {'write' if write else 'read':5} "
          f"4K depth {depth:2}: {per_second['ours']:9.0f} /s, QEMU {per_second['qemu']:9.0f} /s, "
          f"{per_second['ours'] / per_second['qemu']:.2f}x", flush=True)


if __name__ == "__main__":
    main()
