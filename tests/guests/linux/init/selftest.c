#include "selftest.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/vm_sockets.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "net.h"
#include "util.h"

enum { kBlockSize = 65536, kBlocks = 16 };
static char block[kBlockSize] __attribute__((aligned(4096)));

static uint32_t fnv1a(const char* bytes, size_t size) {
    uint32_t hash = 0x811c9dc5u;
    for (size_t i = 0; i < size; i++) {
        hash = (hash ^ (uint8_t)bytes[i]) * 16777619u;
    }
    return hash;
}

static void fill(int index) {
    uint32_t value = 0x9e3779b9u * (uint32_t)(index + 1);
    for (size_t i = 0; i < sizeof block; i += 4) {
        value = value * 1664525u + 1013904223u;
        memcpy(block + i, &value, 4);
    }
}

// Blocks are spread over the whole disk; the last one ends at its last byte.
static off_t offset_of(int index, uint64_t size) {
    return (off_t)((size - kBlockSize) / (kBlocks - 1) * (uint64_t)index & ~4095ull);
}

static void test_disk(const char* device) {
    uint64_t size = 0;
    const int fd = open(device, O_RDWR | O_DIRECT | O_CLOEXEC);
    if (fd < 0 || ioctl(fd, BLKGETSIZE64, &size) != 0 || size < kBlockSize * kBlocks) {
        say("kumoi-test: disk FAIL cannot use %s: errno %d, %llu bytes", device, errno,
            (unsigned long long)size);
        return;
    }
    const int64_t begun = now_ms();
    for (int i = 0; i < kBlocks; i++) {
        fill(i);
        if (pwrite(fd, block, sizeof block, offset_of(i, size)) != (ssize_t)sizeof block) {
            say("kumoi-test: disk FAIL write %d: errno %d", i, errno);
            return;
        }
    }
    if (fsync(fd) != 0) {
        say("kumoi-test: disk FAIL flush: errno %d", errno);
        return;
    }
    for (int i = 0; i < kBlocks; i++) {
        fill(i);
        const uint32_t expected = fnv1a(block, sizeof block);
        memset(block, 0, sizeof block);
        if (pread(fd, block, sizeof block, offset_of(i, size)) != (ssize_t)sizeof block ||
            fnv1a(block, sizeof block) != expected) {
            say("kumoi-test: disk FAIL block %d reads back differently", i);
            return;
        }
    }
    uint64_t range[2] = {0, kBlockSize};
    const bool discarded = ioctl(fd, BLKDISCARD, range) == 0;
    const bool zeroed = ioctl(fd, BLKZEROOUT, range) == 0 &&
                        pread(fd, block, sizeof block, 0) == (ssize_t)sizeof block &&
                        block[0] == 0 && memcmp(block, block + 1, sizeof block - 1) == 0;
    close(fd);
    if (!zeroed) {
        say("kumoi-test: disk FAIL zeroed range does not read as zeros");
        return;
    }
    say("kumoi-test: disk ok size=%llu blocks=%d discard=%d ms=%lld", (unsigned long long)size,
        kBlocks, discarded, (long long)(now_ms() - begun));
}

static void test_read_only_disk(const char* device) {
    const int reader = open(device, O_RDONLY | O_DIRECT | O_CLOEXEC);
    const bool read_back = reader >= 0 && pread(reader, block, 4096, 0) == 4096;
    const int writer = open(device, O_WRONLY | O_DIRECT | O_CLOEXEC);
    // Linux lets a read-only device be opened for writing and refuses the write.
    const bool written = writer >= 0 && pwrite(writer, block, 4096, 0) >= 0;
    if (!read_back || written) {
        say("kumoi-test: rodisk FAIL readable=%d writable=%d", read_back, written);
    } else {
        say("kumoi-test: rodisk ok errno=%d", errno);
    }
    close(reader);
    close(writer);
}

static void test_fetch(const char* url) {
    static char body[65536];
    const char* reason = "";
    const int64_t begun = now_ms();
    const ssize_t size = http_get(url, body, sizeof body, 10000, &reason);
    if (size < 0) {
        say("kumoi-test: fetch FAIL %s: %s", url, reason);
    } else {
        say("kumoi-test: fetch ok bytes=%zd fnv=%08x ms=%lld", size, fnv1a(body, (size_t)size),
            (long long)(now_ms() - begun));
    }
}

static void test_cpus(const char* argument) {
    (void)argument;
    const long online = sysconf(_SC_NPROCESSORS_ONLN);
    int worked = 0;
    for (int cpu = 0; cpu < online; cpu++) {
        const pid_t child = fork();
        if (child == 0) {
            cpu_set_t only;
            CPU_ZERO(&only);
            CPU_SET(cpu, &only);
            _exit(sched_setaffinity(0, sizeof only, &only) == 0 && sched_getcpu() == cpu ? 0 : 1);
        }
        int status = 1;
        waitpid(child, &status, 0);
        worked += status == 0;
    }
    say("kumoi-test: cpus %s online=%ld worked=%d", worked == online ? "ok" : "FAIL", online,
        worked);
}

static void test_rng(const char* argument) {
    (void)argument;
    const int fd = open("/dev/hwrng", O_RDONLY | O_CLOEXEC);
    if (fd < 0 || read(fd, block, 32) != 32 || read(fd, block + 32, 32) != 32 ||
        memcmp(block, block + 32, 32) == 0) {
        say("kumoi-test: rng FAIL errno %d", errno);
    } else {
        say("kumoi-test: rng ok first=%08x", fnv1a(block, 32));
    }
    if (fd >= 0) {
        close(fd);
    }
}

static void test_memory(const char* argument) {
    (void)argument;
    read_file("/proc/meminfo", block, sizeof block);
    const char* total = strstr(block, "MemTotal:");
    say("kumoi-test: memory %s kib=%ld", total == NULL ? "FAIL" : "ok",
        total == NULL ? 0 : strtol(total + 9, NULL, 10));
}

static void test_vsock(const char* argument) {
    static const char kHello[] = "hello from Linux";
    struct sockaddr_vm address = {.svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_HOST};
    address.svm_port = (unsigned)strtoul(argument, NULL, 10);
    char answer[sizeof kHello] = {0};
    const int fd = socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, (struct sockaddr*)&address, sizeof address) != 0 ||
        send(fd, kHello, sizeof kHello, 0) != (ssize_t)sizeof kHello ||
        recv(fd, answer, sizeof answer, MSG_WAITALL) != (ssize_t)sizeof answer) {
        say("kumoi-test: vsock FAIL port %s: errno %d", argument, errno);
    } else {
        say("kumoi-test: vsock %s", strcmp(answer, kHello) == 0 ? "ok" : "FAIL wrong bytes");
    }
    if (fd >= 0) {
        close(fd);
    }
}

static void test_heartbeat(const char* argument) {
    (void)argument;
    if (fork() == 0) {
        const struct timespec pause = {0, 200000000};
        for (unsigned long beat = 0;; beat++) {
            say("kumoi-test: heartbeat %lu", beat);
            nanosleep(&pause, NULL);
        }
    }
}

typedef struct {
    const char* name;
    void (*run)(const char* argument);
} Test;
static const Test kTests[] = {
    {"disk", test_disk},
    {"rodisk", test_read_only_disk},
    {"fetch", test_fetch},
    {"cpus", test_cpus},
    {"rng", test_rng},
    {"memory", test_memory},
    {"vsock", test_vsock},
    {"heartbeat", test_heartbeat},
};

void selftest_run(const char* command_line) {
    static const char kPrefix[] = "kumoi.test=";
    for (const char* at = command_line; (at = strstr(at, kPrefix)) != NULL;) {
        at += strlen(kPrefix);
        char name[256];
        snprintf(name, sizeof name, "%.*s", (int)strcspn(at, " \n"), at);
        char* colon = strchr(name, ':');
        if (colon != NULL) {
            *colon = 0;
        }
        bool known = false;
        for (size_t i = 0; i < sizeof kTests / sizeof kTests[0]; i++) {
            if (strcmp(kTests[i].name, name) == 0) {
                known = true;
                kTests[i].run(colon == NULL ? "" : colon + 1);
            }
        }
        if (!known) {
            say("kumoi-test: %s FAIL no such test", name);
        }
    }
}
