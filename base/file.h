// Whole-file helpers that survive a crash: a file is either the old or the new one, never half.
// Blocking; call from a worker or at start.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace kumoi {

Result<std::string> read_file(const std::string& path, size_t size_max = 16u << 20);
// Writes path.tmp.<pid>.<n>, fsyncs it, renames it over path, fsyncs the directory.
Result<void> write_file_atomic(const std::string& path, std::string_view content,
                               unsigned mode = 0644);
Result<void> make_directories(const std::string& path, unsigned mode = 0755);
Result<void> remove_tree(const std::string& path);  // absent is fine
Result<void> remove_file(const std::string& path);  // absent is fine
bool path_exists(const std::string& path);
Result<std::vector<std::string>> list_directory(const std::string& path);  // names, sorted
Result<uint64_t> file_size(const std::string& path);
Result<void> sync_directory(const std::string& path);

// A fresh directory under $TMPDIR, removed with its content when destroyed.
class TemporaryDirectory {
public:
    static Result<TemporaryDirectory> create(std::string_view prefix);
    TemporaryDirectory(TemporaryDirectory&& other) noexcept;
    TemporaryDirectory& operator=(TemporaryDirectory&& other) noexcept;
    ~TemporaryDirectory();
    const std::string& path() const { return path_; }

private:
    explicit TemporaryDirectory(std::string path) : path_(std::move(path)) {}
    std::string path_;
};

}  // namespace kumoi
