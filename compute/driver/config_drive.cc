#include "compute/driver/config_drive.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <span>

#include "base/fd.h"
#include "base/file.h"
#include "base/subprocess.h"

namespace kumoi::compute {
namespace {

constexpr char kLabel[] = "config-2";  // what cloud-init looks for
constexpr int64_t kTimeoutMs = 60'000;

Result<std::vector<std::string>> iso_program() {
    if (const auto xorriso = find_program("xorriso"); xorriso.ok()) {
        return std::vector<std::string>{*xorriso, "-as", "mkisofs"};
    }
    for (const char* name : {"genisoimage", "mkisofs"}) {
        if (const auto program = find_program(name); program.ok()) {
            return std::vector<std::string>{*program};
        }
    }
    return Error::unavailable(
               "A config drive needs xorriso or genisoimage, and neither is installed")
        .with_hint("apt-get install xorriso");
}

Result<void> write_tree(const std::map<std::string, std::string>& files, const std::string& root) {
    for (const auto& [path, content] : files) {
        const size_t slash = path.rfind('/');
        if (path.empty() || path.front() == '/' || path.find("..") != std::string::npos) {
            return Error::internal("{} is no path for a config drive", path);
        }
        if (slash != std::string::npos) {
            TRY(make_directories(root + "/" + path.substr(0, slash)));
        }
        const UniqueFd file = TRY(open_file(root + "/" + path, O_WRONLY | O_CREAT | O_EXCL, 0644));
        TRY(write_all(file.get(), std::as_bytes(std::span(content))));
    }
    return {};
}

}  // namespace

Result<void> make_config_drive(const std::map<std::string, std::string>& files,
                               const std::string& to) {
    std::vector<std::string> argv = TRY(iso_program());
    const std::string tree = to + ".tree";
    const std::string partial = to + ".part";
    TRY(remove_tree(tree));
    TRY(remove_file(partial));
    auto result = [&]() -> Result<void> {
        if (::mkdir(tree.c_str(), 0700) != 0) {
            return Error::from_errno(errno, "making " + tree);
        }
        TRY(write_tree(files, tree));
        argv.insert(argv.end(), {"-o", partial, "-l", "-ldots", "-allow-lowercase",
                                 "-allow-multidot", "-J", "-r", "-quiet", "-V", kLabel, tree});
        CommandOptions options;
        options.timeout_ms = kTimeoutMs;
        TRY_CONTEXT(run_checked(argv, options), "making the config drive");
        if (::chmod(partial.c_str(), 0600) != 0 || ::rename(partial.c_str(), to.c_str()) != 0) {
            return Error::from_errno(errno, "naming the config drive " + to);
        }
        return {};
    }();
    auto cleaned = remove_tree(tree);
    TRY(result);
    return cleaned;
}

}  // namespace kumoi::compute
