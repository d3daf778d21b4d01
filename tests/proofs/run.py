#!/usr/bin/env python3
"""Bounded proofs with CBMC, on the headers that the programs are built from.

    tests/proofs/run.py                 every proof, and that every proof fails for broken code
    tests/proofs/run.py queue           the proofs of one file
    tests/proofs/run.py --list

Each proof comes with mutations: a line of the real header made wrong, for which the proof has to
fail. A proof that cannot fail is no proof; a mutation whose text is no longer in the header is an
error, so nothing is skipped silently. Without cbmc the run is skipped (exit 77), loudly.
"""
import argparse
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor

ROOT = pathlib.Path(__file__).resolve().parents[2]
SECONDS_MAX = 120  # for everything together
CHECKS = ["--bounds-check", "--pointer-check", "--div-by-zero-check", "--undefined-shift-check"]
UNWIND = ["--unwind", "30", "--unwinding-assertions"]
SKIPPED = 77

QUEUE = "hypervisor/virtio/queue_core.h"
BUCKET = "hypervisor/limits/token_bucket_core.h"
SECTION = "hypervisor/snapshot/section_core.h"

# proof: (harness, arguments, [(header, the right text, the wrong text)])
PROOFS = {
    "every_step_stays_in_bounds": ("queue", ["--signed-overflow-check"], [
        (QUEUE, "walk->index < walk->table_count ? ", "walk->index <= walk->table_count ? "),
        (QUEUE, "walk->writable_size + raw->length > KUMOI", "raw->length > KUMOI"),
        (QUEUE, "if (walk->in_indirect) {", "if (0) {"),
        (QUEUE, "raw->length == 0 || raw->length %", "raw->length %"),
        (QUEUE, "    ++walk->seen;\n", ""),
        (QUEUE, "if (!writable && walk->writable_size != 0) {", "if (0) {"),
    ]),
    "every_walk_ends": ("queue", ["--unwind", "10", "--unwinding-assertions"], [
        (QUEUE, "    ++walk->seen;\n", ""),
    ]),
    "an_interrupt_is_sent_exactly_when_asked_for": ("queue", [], [
        (QUEUE, "(new_index - event - 1) <", "(new_index - event) <"),
    ]),
    "a_jump_is_seen": ("queue", [], [
        (QUEUE, "(uint16_t)(available - next) > size", "(available - next) > size"),
    ]),
    "earned_tokens_do_not_overflow": ("token_bucket", [], [
        (BUCKET, "(TokenCount)elapsed_ns * (TokenCount)rate", "(int64_t)(elapsed_ns * rate)"),
    ]),
    "a_bucket_gets_at_most_what_was_earned": ("token_bucket", [], [
        (BUCKET, "bucket->level + earned : limit", "bucket->level + earned + 1 : limit"),
        (BUCKET, "overslept ? bucket->full + bucket->spare : bucket->full",
         "bucket->full + bucket->spare"),
        (BUCKET, "    if (bucket->level >= limit) {\n        return;\n    }\n", ""),
    ]),
    "time_is_counted_once": ("token_bucket", [], [
        (BUCKET, "if (now_ns <= bucket->refilled_ns) {", "if (now_ns < bucket->refilled_ns - 1) {"),
    ]),
    "what_is_ready_may_be_taken": ("token_bucket", [], [
        (BUCKET, "bucket->level >= token_bucket_needed", "bucket->level + 1 >= token_bucket_needed"),
    ]),
    "the_wait_is_long_enough_and_no_longer": ("token_bucket", [], [
        (BUCKET, "(missing + (TokenCount)rate - 1) /", "missing /"),
    ]),
    "a_cost_does_not_overflow": ("token_bucket", [], [
        (BUCKET, "(TokenCount)units * kTokensPerUnit", "(int64_t)(units * kTokensPerUnit)"),
    ]),
    "a_field_lies_inside_the_bytes": ("section", UNWIND, [
        (SECTION, "if (length > size - at - kSectionFieldHeaderSize) {", "if (length > size) {"),
        (SECTION, "at > size || size - at < kSectionFieldHeaderSize", "at > size"),
        (SECTION, "(kind == kSectionNumber && length != kSectionNumberSize)", "0"),
    ]),
    "reading_ends": ("section", UNWIND, [
        (SECTION, "*position = at + kSectionFieldHeaderSize + length;", "*position = at + length;"),
    ]),
    "a_group_lies_inside_its_field": ("section", UNWIND, [
        (SECTION, "if (name_length > size - kSectionGroupHeaderSize) {",
         "if (name_length > size) {"),
    ]),
}


def cbmc(proof, includes, seconds):
    harness, arguments, _ = PROOFS[proof]
    command = ["cbmc", *sum((["-I", str(folder)] for folder in includes), []),
               f"tests/proofs/{harness}_proof.c", "--function", proof, *CHECKS, *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=max(seconds, 1))
    if done.returncode not in (0, 10):
        return None, done.stdout + done.stderr
    return done.returncode == 0, done.stdout


def mutated(folder, header, right, wrong):
    """A copy of the header with one thing wrong, to be found before the real one."""
    text = (ROOT / header).read_text()
    if text.count(right) != 1:
        raise SystemExit(f"tests/proofs: {header} has {right!r} {text.count(right)} times, not once; "
                         "update the mutation")
    target = pathlib.Path(folder) / header
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text.replace(right, wrong))


def run(job):
    proof, mutation, deadline = job
    with tempfile.TemporaryDirectory() as folder:
        if mutation:
            mutated(folder, *mutation)
        try:
            holds, output = cbmc(proof, [folder, ROOT] if mutation else [ROOT],
                                 deadline - time.monotonic())
        except subprocess.TimeoutExpired:
            return job, None, f"no answer within {SECONDS_MAX} s in total"
    return job, holds, output


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="*", help="queue, token_bucket, section")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--seconds", type=int, default=SECONDS_MAX)
    arguments = parser.parse_args()
    chosen = {name: proof for name, proof in PROOFS.items()
              if not arguments.files or proof[0] in arguments.files}
    if arguments.list:
        print("\n".join(f"{proof[0]}: {name} ({len(proof[2])} mutations)"
                        for name, proof in chosen.items()))
        return 0
    if shutil.which("cbmc") is None:
        print("SKIPPED: cbmc is not installed; devstack/cbmc.sh installs it", file=sys.stderr)
        return SKIPPED
    start = time.monotonic()
    deadline = start + arguments.seconds
    jobs = [(name, mutation, deadline) for name, proof in chosen.items()
            for mutation in [None, *proof[2]]]
    failures = 0
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for (name, mutation, _), holds, output in pool.map(run, jobs):
            what = f"{name} with {mutation[2]!r} for {mutation[1]!r}" if mutation else name
            if holds is None or holds == bool(mutation):
                failures += 1
                print(f"FAILED  {what}\n{output[-2000:]}")
            else:
                print(f"{'refuted' if mutation else 'proved '}  {what}")
    print(f"{len(chosen)} proofs, {len(jobs) - len(chosen)} mutations, {failures} failures, "
          f"{time.monotonic() - start:.0f} s")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
