// What every file of kumoi-init shares: one-write console lines, bounded file helpers, time.
// Single-threaded. Functions that can fail return -1 and leave the reason in errno.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

// Prints one line with one write(), so that lines of two processes never mix.
void say(const char* format, ...) __attribute__((format(printf, 1, 2)));

int64_t now_ms(void);  // since boot
// Reads at most size - 1 bytes and adds a zero.
ssize_t read_file(const char* path, char* buffer, size_t size);
int write_file(const char* path, const char* bytes, size_t size, mode_t mode);
// Starts a program in its own session; with a tty as controlling terminal when one is given.
pid_t start(const char* tty, char* const argv[]);
