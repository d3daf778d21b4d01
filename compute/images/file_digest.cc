#include "compute/images/file_digest.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <vector>

namespace kumoi::compute {
namespace {

constexpr uint64_t kPiece = 256 << 10;  // bytes: stays in the processor's cache

}  // namespace

FileDigest::FileDigest(int fd, DigestKind kind)
    : fd_(fd), digest_(kind), thread_([this] { work(); }) {}

FileDigest::~FileDigest() {
    end(Phase::GivenUp);
}

void FileDigest::advance(uint64_t bytes) {
    {
        const std::lock_guard lock(mutex_);
        written_ += bytes;
    }
    changed_.notify_one();
}

Result<std::string> FileDigest::finish_hex() {
    end(Phase::Complete);
    TRY(outcome_);
    return digest_.finish_hex();
}

void FileDigest::end(Phase phase) {
    if (!thread_.joinable()) {
        return;
    }
    {
        const std::lock_guard lock(mutex_);
        phase_ = phase;
    }
    changed_.notify_one();
    thread_.join();
}

void FileDigest::work() {
    uint64_t done = 0;
    while (true) {
        uint64_t until = 0;
        {
            std::unique_lock lock(mutex_);
            changed_.wait(lock, [&] { return phase_ != Phase::Writing || written_ > done; });
            if (phase_ == Phase::GivenUp || written_ == done) {
                return;
            }
            until = written_;
        }
        if (outcome_ = hash(done, until); !outcome_.ok()) {
            return;
        }
        done = until;
    }
}

Result<void> FileDigest::hash(uint64_t from, uint64_t to) {
    std::vector<std::byte> piece(kPiece);
    while (from < to) {
        const size_t wanted = std::min(kPiece, to - from);
        const ssize_t count = ::pread(fd_, piece.data(), wanted, static_cast<off_t>(from));
        if (count < 0 && errno == EINTR) {
            continue;
        }
        if (count <= 0) {
            return Error::from_errno(count < 0 ? errno : EIO, "reading what was just written");
        }
        digest_.update(std::span(piece).first(static_cast<size_t>(count)));
        from += static_cast<uint64_t>(count);
    }
    return {};
}

}  // namespace kumoi::compute
