#include "base/file.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <memory>

#include "base/fd.h"

namespace kumoi {
namespace {

std::string parent_of(const std::string& path) {
    const size_t slash = path.rfind('/');
    if (slash == std::string::npos) {
        return ".";
    }
    return slash == 0 ? "/" : path.substr(0, slash);
}

Error from_code(const std::error_code& code, std::string what) {
    return Error::from_errno(code.value(), std::move(what));
}

}  // namespace

Result<std::string> read_file(const std::string& path, size_t size_max) {
    const UniqueFd fd = TRY(open_file(path, O_RDONLY));
    std::string content;
    constexpr size_t kStep = 64 << 10;
    while (true) {
        const size_t before = content.size();
        content.resize(before + kStep);
        const ssize_t count = ::read(fd.get(), content.data() + before, kStep);
        if (count < 0 && errno == EINTR) {
            content.resize(before);
            continue;
        }
        if (count < 0) {
            return Error::from_errno(errno, "reading " + path);
        }
        content.resize(before + static_cast<size_t>(count));
        if (content.size() > size_max) {
            return Error::too_large("{} is larger than the limit of {} bytes", path, size_max);
        }
        if (count == 0) {
            return content;
        }
    }
}

Result<void> write_file_atomic(const std::string& path, std::string_view content, unsigned mode) {
    static std::atomic<unsigned> counter{0};
    const std::string temporary = fmt::format("{}.tmp.{}.{}", path, ::getpid(), counter++);
    const UniqueFd fd = TRY(open_file(temporary, O_WRONLY | O_CREAT | O_EXCL, mode));
    const auto write_out = [&]() -> Result<void> {
        TRY_CONTEXT(write_all(fd.get(), std::as_bytes(std::span(content))), "{}", temporary);
        if (::fsync(fd.get()) != 0) {
            return Error::from_errno(errno, "syncing " + temporary);
        }
        if (::rename(temporary.c_str(), path.c_str()) != 0) {
            return Error::from_errno(errno, "renaming onto " + path);
        }
        return sync_directory(parent_of(path));
    };
    auto outcome = write_out();
    if (!outcome.ok()) {
        ::unlink(temporary.c_str());
    }
    return outcome;
}

Result<void> make_directories(const std::string& path, unsigned mode) {
    if (path.empty() || path_exists(path)) {
        return {};
    }
    TRY(make_directories(path == "/" ? "" : parent_of(path) == "." ? "" : parent_of(path), mode));
    if (::mkdir(path.c_str(), mode) != 0 && errno != EEXIST) {
        return Error::from_errno(errno, "making the directory " + path);
    }
    return {};
}

Result<void> remove_tree(const std::string& path) {
    std::error_code code;
    std::filesystem::remove_all(path, code);
    if (code) {
        return from_code(code, "removing " + path);
    }
    return {};
}

Result<void> remove_file(const std::string& path) {
    if (::unlink(path.c_str()) != 0 && errno != ENOENT) {
        return Error::from_errno(errno, "removing " + path);
    }
    return {};
}

bool path_exists(const std::string& path) {
    struct stat status {};
    return ::stat(path.c_str(), &status) == 0;
}

Result<std::vector<std::string>> list_directory(const std::string& path) {
    const std::unique_ptr<DIR, int (*)(DIR*)> directory(::opendir(path.c_str()), ::closedir);
    if (!directory) {
        return Error::from_errno(errno, "listing " + path);
    }
    std::vector<std::string> names;
    while (const dirent* entry = ::readdir(directory.get())) {
        const std::string name = entry->d_name;
        if (name != "." && name != "..") {
            names.push_back(name);
        }
    }
    std::sort(names.begin(), names.end());
    return names;
}

Result<uint64_t> file_size(const std::string& path) {
    struct stat status {};
    if (::stat(path.c_str(), &status) != 0) {
        return Error::from_errno(errno, "looking at " + path);
    }
    return static_cast<uint64_t>(status.st_size);
}

Result<void> sync_directory(const std::string& path) {
    const UniqueFd fd = TRY(open_file(path, O_RDONLY | O_DIRECTORY));
    if (::fsync(fd.get()) != 0) {
        return Error::from_errno(errno, "syncing the directory " + path);
    }
    return {};
}

Result<TemporaryDirectory> TemporaryDirectory::create(std::string_view prefix) {
    const char* base = std::getenv("TMPDIR");
    std::string pattern = fmt::format("{}/{}XXXXXX", base != nullptr ? base : "/tmp", prefix);
    if (::mkdtemp(pattern.data()) == nullptr) {
        return Error::from_errno(errno, "making a temporary directory " + pattern);
    }
    return TemporaryDirectory(pattern);
}

TemporaryDirectory::TemporaryDirectory(TemporaryDirectory&& other) noexcept
    : path_(std::exchange(other.path_, {})) {}

TemporaryDirectory& TemporaryDirectory::operator=(TemporaryDirectory&& other) noexcept {
    std::swap(path_, other.path_);
    return *this;
}

TemporaryDirectory::~TemporaryDirectory() {
    if (!path_.empty()) {
        (void)remove_tree(path_).ok();
    }
}

}  // namespace kumoi
