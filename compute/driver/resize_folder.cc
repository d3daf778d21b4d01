#include "compute/driver/resize_folder.h"

#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>

#include "base/file.h"
#include "compute/driver/disk_file.h"

namespace kumoi::compute::resize_folder {
namespace {

constexpr std::string_view kBase = ".base";  // base_of() a disk

Result<void> link_file(const std::string& from, const std::string& to) {
    if (::link(from.c_str(), to.c_str()) != 0) {
        return Error::from_errno(errno, fmt::format("linking {} to {}", to, from));
    }
    return {};
}

Result<void> rename_folder(const std::string& from, const std::string& to) {
    if (::rename(from.c_str(), to.c_str()) != 0) {
        return Error::from_errno(errno, fmt::format("renaming {} to {}", from, to));
    }
    return {};
}

// Sockets, locks and process records belong to the process that is gone.
bool is_copied(const InstanceFolder& folder, const std::string& path) {
    struct stat status {};
    return ::lstat(path.c_str(), &status) == 0 && S_ISREG(status.st_mode) &&
           path != folder.lock() && path != folder.process() && path != folder.pid_file();
}

}  // namespace

bool is_kept(const InstanceFolder& folder) {
    return path_exists(folder.resize_kept());
}

Result<void> keep_aside(const InstanceFolder& folder) {
    if (is_kept(folder)) {
        return {};
    }
    TRY(remove_tree(folder.resize_work()));
    TRY(make_directories(folder.resize_work(), 0700));
    for (const std::string& name : TRY(list_directory(folder.path()))) {
        const std::string from = folder.path() + "/" + name;
        const std::string to = folder.resize_work() + "/" + name;
        if (name.ends_with(kBase)) {  // nobody writes to it
            TRY(link_file(from, to));
        } else if (is_copied(folder, from)) {
            TRY(copy_sparse(from, to));
        }
    }
    TRY(rename_folder(folder.path(), folder.resize_kept()));
    return rename_folder(folder.resize_work(), folder.path());
}

Result<void> put_aside(const InstanceFolder& folder) {
    return is_kept(folder) ? Result<void>() : rename_folder(folder.path(), folder.resize_kept());
}

Result<void> restore(const InstanceFolder& folder) {
    if (is_kept(folder)) {
        TRY(remove_tree(folder.path()));
        TRY(rename_folder(folder.resize_kept(), folder.path()));
    }
    return remove_tree(folder.resize_work());
}

Result<void> discard(const InstanceFolder& folder) {
    TRY(remove_tree(folder.resize_kept()));
    return remove_tree(folder.resize_work());
}

}  // namespace kumoi::compute::resize_folder
