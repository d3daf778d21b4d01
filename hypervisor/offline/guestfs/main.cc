// kumoi-guestfs: looks into the disk of a stopped guest, or customizes it, through libguestfs. One
// request, one JSON answer on standard output; errors on standard error.
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <optional>
#include <string>
#include <string_view>

#include "base/fd.h"
#include "base/file.h"
#include "base/version.h"
#include "hypervisor/offline/customization.h"
#include "hypervisor/offline/guestfs/guestfs_disk.h"

namespace kumoi::hypervisor::offline {
namespace {

constexpr char kHelp[] =
    R"(kumoi-guestfs looks into the disk of a stopped guest and customizes it (needs libguestfs).

usage: kumoi-guestfs inspect [options] DISK      prints the operating system on it
       kumoi-guestfs customize [options] DISK    reads a request from standard input:
                {"hostname", "reset", "users": [{"name", "password", "ssh_keys"}],
                 "network": [{"mac", "addresses", "gateway4", "gateway6", "dns"}]}
         --format raw|qcow2       of the disk; default raw
         --emulate                the appliance runs without KVM
         --launch-timeout SECONDS after which it is tried without KVM; default 90
       kumoi-guestfs --help | --version
)";
constexpr size_t kRequestMax = 1u << 20;

struct Work {
    std::string verb;
    DiskToOpen disk;
    Customization wanted;
    int launch_seconds = 90;
};

enum class Ending { Done, Failed, NotLaunched };

Result<std::string> read_input() {
    std::string text;
    char piece[4096];
    size_t size = 0;
    while ((size = std::fread(piece, 1, sizeof piece, stdin)) > 0) {
        text.append(piece, size);
        if (text.size() > kRequestMax) {
            return Error::too_large("the request has more than {} bytes", kRequestMax);
        }
    }
    return text;
}

Result<Work> parse(int argc, char** argv) {
    Work work;
    work.verb = argv[1];
    if (work.verb != "inspect" && work.verb != "customize") {
        return Error::invalid("there is no verb \"{}\"", work.verb).with_hint("see --help");
    }
    for (int i = 2; i < argc; ++i) {
        const std::string_view word = argv[i];
        const bool has_value = i + 1 < argc;
        if (word == "--emulate") {
            work.disk.emulate = true;
        } else if (word == "--format" && has_value) {
            work.disk.format = argv[++i];
        } else if (word == "--launch-timeout" && has_value) {
            work.launch_seconds = std::atoi(argv[++i]);
        } else if (word.starts_with("-") || !work.disk.path.empty()) {
            return Error::invalid("\"{}\" is not understood", word).with_hint("see --help");
        } else {
            work.disk.path = word;
        }
    }
    if (work.disk.path.empty() || work.launch_seconds < 1 || work.launch_seconds > 3600 ||
        (work.disk.format != "raw" && work.disk.format != "qcow2")) {
        return Error::invalid("a disk, its format (raw, qcow2) and 1 to 3600 seconds are wanted")
            .with_hint("see --help");
    }
    work.disk.writable = work.verb == "customize";
    if (work.disk.writable) {
        work.wanted = TRY(parse_customization(TRY(Json::parse(TRY(read_input())))));
    }
    return work;
}

Result<Json> perform(const Work& work, int launched) {
    auto disk = TRY(GuestfsDisk::open(work.disk));
    [[maybe_unused]] const ssize_t told = ::write(launched, "L", 1);
    TRY(disk->mount());
    if (work.verb == "inspect") {
        return disk->describe();
    }
    if (!disk->is_linux()) {
        return Error::unsupported("only Linux guests can be customized here")
            .with_hint("Windows has sysprep and cloudbase-init");
    }
    SystemRandom random;
    const SystemClock clock;
    const auto done = TRY(customize(*disk, work.wanted, random, clock));
    TRY(disk->close());
    return Json::object({{"done", Json::array_of(done)}});
}

[[noreturn]] void run_child(const Work& work, int launched) {
    const auto answer = perform(work, launched);
    if (!answer) {
        std::fprintf(stderr, "kumoi-guestfs: %s\n", answer.error().text().c_str());
    } else {
        std::printf("%s\n", answer->dump().c_str());
        std::fflush(stdout);
    }
    std::_Exit(answer ? 0 : 1);
}

// In a process group of its own, so that an appliance that hangs while it starts, which KVM on some
// hosts does, can be ended with everything it started. Nothing is mounted before it has started.
Ending attempt(const Work& work) {
    int ends[2];
    if (::pipe2(ends, O_CLOEXEC) != 0) {
        return Ending::Failed;
    }
    UniqueFd reader(ends[0]), writer(ends[1]);
    const pid_t child = ::fork();
    if (child == 0) {
        (void)::setpgid(0, 0);
        run_child(work, writer.get());
    }
    if (child < 0) {
        return Ending::Failed;
    }
    (void)::setpgid(child, child);
    writer.reset();
    pollfd waiting{reader.get(), POLLIN, 0};
    const int ready = ::poll(&waiting, 1, work.launch_seconds * 1000);
    if (ready == 0) {
        (void)::kill(-child, SIGKILL);
    }
    int status = 0;
    while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
    }
    if (ready == 0) {
        return Ending::NotLaunched;
    }
    return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? Ending::Done : Ending::Failed;
}

int run(int argc, char** argv) {
    const std::string_view first = argc > 1 ? argv[1] : "--help";
    if (first == "--help" || first == "-h") {
        std::fputs(kHelp, stdout);
        return 0;
    }
    if (first == "--version") {
        std::printf("kumoi-guestfs %s\n", kVersion);
        return 0;
    }
    auto work = parse(argc, argv);
    if (!work) {
        std::fprintf(stderr, "kumoi-guestfs: %s\n", work.error().text().c_str());
        return 1;
    }
    Ending ending = attempt(*work);
    if (ending == Ending::NotLaunched && !work->disk.emulate) {
        std::fprintf(stderr,
                     "kumoi-guestfs: the appliance did not start in %d s; without KVM now\n",
                     work->launch_seconds);
        work->disk.emulate = true;
        work->launch_seconds *= 4;
        ending = attempt(*work);
    }
    if (ending == Ending::NotLaunched) {
        std::fprintf(stderr, "kumoi-guestfs: the appliance did not start in %d s\n",
                     work->launch_seconds);
    }
    return ending == Ending::Done ? 0 : 1;
}

}  // namespace
}  // namespace kumoi::hypervisor::offline

int main(int argc, char** argv) {
    return kumoi::hypervisor::offline::run(argc, argv);
}
