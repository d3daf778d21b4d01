// kumoi-img: makes, inspects, checks and changes disk images. Command line in, exit code out.
#include <cstdio>
#include <string>
#include <string_view>

#include "base/log.h"
#include "base/version.h"
#include "hypervisor/image_tool/commands.h"

namespace kumoi::hypervisor::image_tool {
namespace {

constexpr char kHelp[] =
    R"(kumoi-img makes, inspects, checks and changes disk images (raw and qcow2).

usage: kumoi-img create [options] FILE [SIZE]
         -b FILE -F FORMAT            on a backing file; SIZE defaults to its size
         --cluster-size SIZE          512 to 2M; default 64K
         --version 2|3  --refcount-bits N  --extended-l2  --lazy-refcounts
         --compression zlib|zstd  --preallocation metadata
       kumoi-img info [--json] [--backing-chain] FILE
       kumoi-img check [--json] [--repair leaks|all] FILE
       kumoi-img resize [--shrink] FILE SIZE        SIZE may be +SIZE
       kumoi-img convert [-f FORMAT] -O raw|qcow2 [-c] [qcow2 options as for create] SOURCE TARGET
       kumoi-img map [--json] [-f FORMAT] FILE
       kumoi-img commit FILE                        into its backing file
       kumoi-img rebase [--unsafe] -b FILE -F FORMAT FILE      -b "" for none
       kumoi-img bitmap list|add|remove|clear|merge|enable|disable [options] FILE [NAME] [SOURCE]
       kumoi-img --help | --version

Exit code: 0 done, 1 failed, 2 check found errors, 3 check found leaks only.
)";

struct Command {
    std::string_view name;
    Result<int> (*run)(const Words&);
};
constexpr Command kCommands[] = {
    {"create", create}, {"info", info},       {"check", check},
    {"resize", resize}, {"convert", convert}, {"map", map},
    {"commit", commit}, {"rebase", rebase},   {"bitmap", bitmap},
};

int run(int argc, char** argv) {
    const std::string_view name = argc > 1 ? argv[1] : "";
    if (name == "--help" || name == "-h") {
        std::fputs(kHelp, stdout);
        return 0;
    }
    if (name == "--version") {
        std::printf("kumoi-img %s\n", kVersion);
        return 0;
    }
    LogOptions log;
    log.level = LogLevel::Warn;
    if (const auto started = log_init(log); !started) {
        std::fprintf(stderr, "kumoi-img: %s\n", started.error().text().c_str());
        return 1;
    }
    for (const Command& command : kCommands) {
        if (command.name == name) {
            const auto result = command.run(Words(argv + 2, argv + argc));
            if (!result) {
                std::fprintf(stderr, "kumoi-img: %s\n", result.error().text().c_str());
            }
            return result ? *result : 1;
        }
    }
    std::fprintf(stderr, "kumoi-img: \"%.*s\" is no command\n%s", static_cast<int>(name.size()),
                 name.data(), kHelp);
    return 1;
}

}  // namespace
}  // namespace kumoi::hypervisor::image_tool

int main(int argc, char** argv) {
    return kumoi::hypervisor::image_tool::run(argc, argv);
}
