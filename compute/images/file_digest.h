// FileDigest: the digest of a file while it is being written, on a thread of its own that reads
// behind the writer, from the page cache. So hashing does not add to the time of a download.
//
//     FileDigest digest(fd, DigestKind::Sha512);      // fd may be read; outlives this
//     write(...); digest.advance(bytes_written);      // again and again
//     TRY(digest.finish_hex())                        // waits for the rest
//
// The writer's thread calls all methods.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <string>
#include <thread>

#include "base/digest.h"
#include "base/result.h"

namespace kumoi::compute {

class FileDigest {
public:
    FileDigest(int fd, DigestKind kind);
    ~FileDigest();  // without finish_hex(): gives up
    FileDigest(const FileDigest&) = delete;
    FileDigest& operator=(const FileDigest&) = delete;

    void advance(uint64_t bytes);  // so many more are in the file
    Result<std::string> finish_hex();

private:
    enum class Phase { Writing, Complete, GivenUp };
    void end(Phase phase);
    void work();
    Result<void> hash(uint64_t from, uint64_t to);

    const int fd_;
    Digest digest_;  // the thread's until it has ended
    Result<void> outcome_;
    std::mutex mutex_;  // guards the next two
    uint64_t written_ = 0;
    Phase phase_ = Phase::Writing;
    std::condition_variable changed_;
    std::thread thread_;
};

}  // namespace kumoi::compute
