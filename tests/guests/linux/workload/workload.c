// What a live migration must not disturb, all at once in one Linux guest:
//   memory  every word of `MIB` of memory is checked and written anew, pass after pass
//   disk    blocks of a raw device are read back, compared with what was written last, written anew
//   clock   no clock of the guest, and not its TSC, ever runs backwards
//   tcp     numbered blocks come with a CRC over one connection and are answered with another
// Usage: workload MIB DEVICE. A line about every 200 ms: "work N memory=A disk=B clock=C tcp=D
// skip_us=E": how far each is; E is the largest step of the monotonic clock between two looks since
// the last line. What is wrong ends it with "work FAIL what".
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <linux/fs.h>

enum { kPage = 4096, kPort = 7, kBlockMax = 65536, kWords = kPage / 8 };

typedef struct {
    uint64_t memory, disk, clock, tcp, skip_us;
} Progress;

// As blocks on the wire begin, both ways; little-endian.
typedef struct {
    char magic[4];
    uint32_t size;
    uint64_t number;
    uint32_t crc;
    uint32_t reserved;
} BlockHeader;

static volatile Progress* progress;

static void say(const char* format, ...) {
    char line[256];
    va_list arguments;
    va_start(arguments, format);
    const int size = vsnprintf(line, sizeof line - 1, format, arguments);
    va_end(arguments);
    line[size] = '\n';
    if (write(STDOUT_FILENO, line, (size_t)size + 1) < 0) {
        _exit(2);
    }
}

#define FAIL(...)                        \
    do {                                 \
        say("\nwork FAIL " __VA_ARGS__); \
        _exit(1);                        \
    } while (0)

static uint64_t mix(uint64_t value) {
    value ^= value >> 33;
    value *= 0xff51afd7ed558ccdull;
    value ^= value >> 33;
    value *= 0xc4ceb9fe1a85ec53ull;
    return value ^ value >> 33;
}

static void pause_us(long us) {
    const struct timespec time = {.tv_nsec = us * 1000};
    nanosleep(&time, NULL);
}

static void memory_worker(size_t mib) {
    const size_t pages = mib * 256;
    uint64_t* const memory =
        mmap(NULL, pages * kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) {
        FAIL("memory: no %zu MiB", mib);
    }
    for (uint64_t pass = 0;; pass++) {
        for (size_t page = 0; page < pages; page++) {
            uint64_t* const words = memory + page * kWords;
            const uint64_t before = pass == 0 ? 0 : mix(page << 32 | (pass - 1));
            const uint64_t after = mix(page << 32 | pass);
            for (size_t i = 0; i < kWords; i++) {
                const uint64_t expected = pass == 0 ? 0 : before + i;
                if (words[i] != expected) {
                    FAIL("memory: word %zu of page %zu is %" PRIx64 " in pass %" PRIu64, i, page,
                         words[i], pass);
                }
                words[i] = after + i;
            }
            progress->memory++;
            if (page % 64 == 63) {
                pause_us(1000);  // about 25 MiB a second at HZ=100
            }
        }
    }
}

// A block says which it is and how often it was written; the host can check that afterwards.
static void fill_block(uint64_t* block, uint64_t number, uint64_t generation) {
    block[0] = number;
    block[1] = generation;
    for (size_t i = 2; i < kWords; i++) {
        block[i] = mix(number << 40 ^ generation << 9 ^ i);
    }
}

static void disk_worker(const char* device) {
    const int fd = open(device, O_RDWR | O_DIRECT);
    uint64_t size = 0;
    if (fd < 0 || ioctl(fd, BLKGETSIZE64, &size) != 0 || size < kPage) {
        FAIL("disk: cannot use %s: errno %d", device, errno);
    }
    const uint64_t count = size / kPage;
    uint64_t* const generations = calloc(count, sizeof *generations);
    uint64_t *found = NULL, *wanted = NULL;
    if (generations == NULL || posix_memalign((void**)&found, kPage, kPage) != 0 ||
        posix_memalign((void**)&wanted, kPage, kPage) != 0) {
        FAIL("disk: no memory");
    }
    for (uint64_t step = 0;; step++) {
        const uint64_t number = mix(step) % count;
        const off_t at = (off_t)(number * kPage);
        if (generations[number] != 0) {
            fill_block(wanted, number, generations[number]);
            if (pread(fd, found, kPage, at) != kPage) {
                FAIL("disk: cannot read block %" PRIu64 ": errno %d", number, errno);
            }
            if (memcmp(found, wanted, kPage) != 0) {
                FAIL("disk: block %" PRIu64 " holds %" PRIu64 ".%" PRIu64 ", not %" PRIu64, number,
                     found[0], found[1], generations[number]);
            }
        }
        fill_block(wanted, number, ++generations[number]);
        if (pwrite(fd, wanted, kPage, at) != kPage || (step % 16 == 15 && fdatasync(fd) != 0)) {
            FAIL("disk: cannot write block %" PRIu64 ": errno %d", number, errno);
        }
        progress->disk++;
        pause_us(1000);
    }
}

static void clock_worker(void) {
    static const clockid_t kClocks[] = {CLOCK_MONOTONIC, CLOCK_MONOTONIC_RAW, CLOCK_BOOTTIME,
                                        CLOCK_REALTIME};
    enum { kCount = sizeof kClocks / sizeof *kClocks };
    uint64_t last[kCount] = {0};
    uint64_t last_tsc = 0;
    for (;;) {
        for (int look = 0; look < 8; look++) {
            const uint64_t tsc = __builtin_ia32_rdtsc();
            if (tsc < last_tsc) {
                FAIL("clock: the TSC ran from %" PRIu64 " to %" PRIu64, last_tsc, tsc);
            }
            last_tsc = tsc;
            for (size_t i = 0; i < kCount; i++) {
                struct timespec now;
                clock_gettime(kClocks[i], &now);
                const uint64_t ns = (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
                if (ns < last[i]) {
                    FAIL("clock: clock %d ran from %" PRIu64 " to %" PRIu64 " ns", (int)kClocks[i],
                         last[i], ns);
                }
                if (i == 0 && last[0] != 0 && (ns - last[0]) / 1000 > progress->skip_us) {
                    progress->skip_us = (ns - last[0]) / 1000;
                }
                last[i] = ns;
            }
        }
        progress->clock++;
        pause_us(1000);
    }
}

static uint32_t crc32_of(const uint8_t* bytes, size_t size) {
    static uint32_t table[256];
    if (table[1] == 0) {
        for (uint32_t i = 0; i < 256; i++) {
            uint32_t value = i;
            for (int bit = 0; bit < 8; bit++) {
                value = (value & 1) != 0 ? value >> 1 ^ 0xedb88320u : value >> 1;
            }
            table[i] = value;
        }
    }
    uint32_t crc = ~0u;
    for (size_t i = 0; i < size; i++) {
        crc = crc >> 8 ^ table[(crc ^ bytes[i]) & 0xff];
    }
    return ~crc;
}

// False: the other side has ended it, at the beginning of a block.
static bool read_all(int fd, void* to, size_t size, bool may_end) {
    size_t done = 0;
    while (done < size) {
        const ssize_t got = read(fd, (char*)to + done, size - done);
        if (got == 0 && done == 0 && may_end) {
            return false;
        }
        if (got <= 0) {
            FAIL("tcp: the connection broke: %zd, errno %d", got, errno);
        }
        done += (size_t)got;
    }
    return true;
}

static void serve(int fd) {
    static uint8_t block[sizeof(BlockHeader) + kBlockMax];
    BlockHeader* const header = (BlockHeader*)block;
    uint8_t* const bytes = block + sizeof *header;
    for (uint64_t number = 0; read_all(fd, header, sizeof *header, true); number++) {
        if (memcmp(header->magic, "KWRK", 4) != 0 || header->size > kBlockMax ||
            header->number != number) {
            FAIL("tcp: header of block %" PRIu64 " of %u bytes, not of block %" PRIu64,
                 header->number, header->size, number);
        }
        read_all(fd, bytes, header->size, false);
        if (crc32_of(bytes, header->size) != header->crc) {
            FAIL("tcp: block %" PRIu64 " came damaged", number);
        }
        for (size_t i = 0; i < header->size; i++) {
            bytes[i] = (uint8_t)(bytes[i] ^ 0x5a);
        }
        header->crc = crc32_of(bytes, header->size);
        const size_t size = sizeof *header + header->size;
        for (size_t done = 0; done < size;) {
            const ssize_t sent = write(fd, block + done, size - done);
            if (sent <= 0) {
                FAIL("tcp: cannot answer: errno %d", errno);
            }
            done += (size_t)sent;
        }
        progress->tcp++;
    }
}

static void tcp_worker(void) {
    const int listener = socket(AF_INET, SOCK_STREAM, 0);
    const int one = 1;
    const struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(kPort)};
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(listener, (const struct sockaddr*)&address, sizeof address) != 0 ||
        listen(listener, 4) != 0) {
        FAIL("tcp: cannot listen: errno %d", errno);
    }
    for (;;) {
        const int fd = accept(listener, NULL, NULL);
        if (fd < 0) {
            FAIL("tcp: cannot accept: errno %d", errno);
        }
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        serve(fd);
        close(fd);
    }
}

static void start(void (*worker)(void*), void* argument) {
    const pid_t pid = fork();
    if (pid < 0) {
        FAIL("no process: errno %d", errno);
    }
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        worker(argument);
        _exit(1);
    }
}

static void run_memory(void* mib) {
    memory_worker((size_t)(uintptr_t)mib);
}
static void run_disk(void* device) {
    disk_worker(device);
}
static void run_clock(void* nothing) {
    (void)nothing;
    clock_worker();
}
static void run_tcp(void* nothing) {
    (void)nothing;
    tcp_worker();
}

int main(int count, char** arguments) {
    if (count != 3) {
        say("usage: workload MIB DEVICE");
        return 2;
    }
    progress = mmap(NULL, kPage, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (progress == MAP_FAILED) {
        FAIL("no shared memory");
    }
    start(run_memory, (void*)(uintptr_t)strtoul(arguments[1], NULL, 10));
    start(run_disk, arguments[2]);
    start(run_clock, NULL);
    start(run_tcp, NULL);
    for (uint64_t line = 1;; line++) {
        pause_us(200000);
        int status = 0;
        if (waitpid(-1, &status, WNOHANG) > 0) {
            FAIL("a worker ended with %x", (unsigned)status);
        }
        say("\nwork %" PRIu64 " memory=%" PRIu64 " disk=%" PRIu64 " clock=%" PRIu64 " tcp=%" PRIu64
            " skip_us=%" PRIu64,
            line, progress->memory, progress->disk, progress->clock, progress->tcp,
            progress->skip_us);
        progress->skip_us = 0;
    }
}
