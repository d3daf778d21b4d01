// Checks asked for on the kernel command line as kumoi.test=NAME[:ARGUMENT], run in order once the
// network is settled. Each prints `kumoi-test: NAME ok ...` or `kumoi-test: NAME FAIL reason`.
//   disk:/dev/vdb      pattern written, flushed, read back past the page cache
//   rodisk:/dev/vdb    reads work, writes are refused
//   fetch:URL          body's size and FNV-1a hash
//   cpus               how many are online, and that each runs a thread's work
//   rng                two different blocks from /dev/hwrng
//   memory             MemTotal
//   vsock:PORT         says something to that port of the host and wants it back
//   heartbeat          a line with a counter every 200 ms, for ever, beside everything else
#pragma once

void selftest_run(const char* command_line);
