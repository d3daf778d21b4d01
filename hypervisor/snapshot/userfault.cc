#include "hypervisor/snapshot/userfault.h"

#include <cerrno>

#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace kumoi::hypervisor {

namespace {

constexpr size_t kPage = 4096;

// Newer than some of the kernel headers this must build with.
#ifndef UFFD_FEATURE_WP_HUGETLBFS_SHMEM
#define UFFD_FEATURE_WP_HUGETLBFS_SHMEM (1 << 12)
#endif
#ifndef USERFAULTFD_IOC_NEW
#define USERFAULTFD_IOC_NEW _IO(0xAA, 0x00)
#endif

uint64_t address_of(const std::byte* at) {
    return reinterpret_cast<uint64_t>(at);
}

uffdio_range range_of(std::span<std::byte> range) {
    return {address_of(range.data()), range.size()};
}

Result<UniqueFd> open_descriptor(FileSource& files) {
    if (const auto device = files.open("/dev/userfaultfd", O_RDWR)) {
        const int fd = ioctl(device->get(), USERFAULTFD_IOC_NEW, O_CLOEXEC | O_NONBLOCK);
        if (fd >= 0) {
            return UniqueFd(fd);
        }
    }
    const auto fd = static_cast<int>(syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK));
    if (fd < 0) {
        return Error::from_errno(errno, "userfaultfd")
            .with_hint("give this process access to /dev/userfaultfd");
    }
    return UniqueFd(fd);
}

}  // namespace

Result<Userfault> Userfault::open(FileSource& files, Mode mode) {
    Userfault faults(TRY(open_descriptor(files)));
    uffdio_api api{};
    api.api = UFFD_API;
    api.features = UFFD_FEATURE_MISSING_SHMEM;
    if (mode == Mode::WriteProtect) {
        api.features |= UFFD_FEATURE_PAGEFAULT_FLAG_WP | UFFD_FEATURE_WP_HUGETLBFS_SHMEM;
    }
    if (ioctl(faults.fd(), UFFDIO_API, &api) != 0) {
        if (errno == EINVAL) {
            return Error::unsupported("this kernel cannot watch shared memory in that way")
                .with_hint("Linux 5.19 or newer can");
        }
        return Error::from_errno(errno, "UFFDIO_API");
    }
    return faults;
}

Result<void> Userfault::watch(std::span<std::byte> range, Mode mode) {
    uffdio_register argument{};
    argument.range = range_of(range);
    argument.mode = mode == Mode::Missing ? UFFDIO_REGISTER_MODE_MISSING : UFFDIO_REGISTER_MODE_WP;
    if (ioctl(fd(), UFFDIO_REGISTER, &argument) != 0) {
        return Error::from_errno(errno, "UFFDIO_REGISTER");
    }
    return {};
}

Result<void> Userfault::unwatch(std::span<std::byte> range) {
    uffdio_range argument = range_of(range);
    if (ioctl(fd(), UFFDIO_UNREGISTER, &argument) != 0) {
        return Error::from_errno(errno, "UFFDIO_UNREGISTER");
    }
    // The kernel wakes who waits before it stops watching: a fault under the lock of its mapping
    // alone can begin to wait in between, and would wait for ever.
    return wake(range);
}

Result<void> Userfault::copy(std::byte* target, std::span<const std::byte> pages) {
    size_t done = 0;
    while (done < pages.size()) {
        uffdio_copy argument{};
        argument.dst = address_of(target + done);
        argument.src = address_of(pages.data() + done);
        argument.len = pages.size() - done;
        const bool ok = ioctl(fd(), UFFDIO_COPY, &argument) == 0;
        const int error = errno;
        if (argument.copy > 0) {
            done += static_cast<size_t>(argument.copy);
        }
        if (ok || error == EAGAIN) {
            continue;
        }
        if (error != EEXIST) {
            return Error::from_errno(error, "UFFDIO_COPY");
        }
        if (argument.copy <= 0) {
            TRY(wake({target + done, kPage}));  // somebody may wait for exactly this page
            done += kPage;
        }
    }
    return {};
}

Result<void> Userfault::zero(std::byte* target, size_t size) {
    for (size_t done = 0; done < size;) {
        uffdio_zeropage argument{};
        argument.range = {address_of(target + done), size - done};
        const bool ok = ioctl(fd(), UFFDIO_ZEROPAGE, &argument) == 0;
        const int error = errno;
        if (argument.zeropage > 0) {
            done += static_cast<size_t>(argument.zeropage);
        }
        if (ok || error == EAGAIN) {
            continue;
        }
        if (error != EEXIST) {
            return Error::from_errno(error, "UFFDIO_ZEROPAGE");
        }
        if (argument.zeropage <= 0) {
            TRY(wake({target + done, kPage}));
            done += kPage;
        }
    }
    return {};
}

Result<void> Userfault::protect(std::span<std::byte> range) {
    uffdio_writeprotect argument{};
    argument.range = range_of(range);
    argument.mode = UFFDIO_WRITEPROTECT_MODE_WP;
    while (ioctl(fd(), UFFDIO_WRITEPROTECT, &argument) != 0) {
        if (errno != EAGAIN) {
            return Error::from_errno(errno, "UFFDIO_WRITEPROTECT");
        }
    }
    return {};
}

Result<void> Userfault::unprotect(std::span<std::byte> range) {
    uffdio_writeprotect argument{};
    argument.range = range_of(range);
    while (ioctl(fd(), UFFDIO_WRITEPROTECT, &argument) != 0) {
        if (errno != EAGAIN) {
            return Error::from_errno(errno, "UFFDIO_WRITEPROTECT");
        }
    }
    return {};
}

Result<void> Userfault::wake(std::span<std::byte> range) {
    uffdio_range argument = range_of(range);
    if (ioctl(fd(), UFFDIO_WAKE, &argument) != 0) {
        return Error::from_errno(errno, "UFFDIO_WAKE");
    }
    return {};
}

Result<std::optional<Userfault::Fault>> Userfault::next_fault() {
    for (;;) {
        uffd_msg message{};
        const ssize_t count = ::read(fd(), &message, sizeof message);
        if (count < 0 && errno == EINTR) {
            continue;
        }
        if (count < 0 && errno == EAGAIN) {
            return std::optional<Fault>();
        }
        if (count != sizeof message) {
            return Error::from_errno(count < 0 ? errno : EIO, "reading a page fault");
        }
        if (message.event == UFFD_EVENT_PAGEFAULT) {
            return std::optional(
                Fault{message.arg.pagefault.address & ~uint64_t{kPage - 1},
                      (message.arg.pagefault.flags & UFFD_PAGEFAULT_FLAG_WP) != 0});
        }
    }
}

}  // namespace kumoi::hypervisor
