// kumoi-vmm: one virtual machine. Command line in, exit code out; the rest is VmmProcess.
#include <charconv>
#include <cstdio>
#include <optional>
#include <string_view>

#include "base/clock.h"
#include "base/event_loop.h"
#include "base/log.h"
#include "base/random.h"
#include "base/version.h"
#include "hypervisor/control/vmm_process.h"
#include "migration/migration_control.h"

namespace kumoi::hypervisor {
namespace {

constexpr char kHelp[] =
    R"(kumoi-vmm runs one virtual machine on KVM.

usage: kumoi-vmm --config FILE [--control SOCKET] [--serial stdio] [--log FILE]
                 [--log-level LEVEL] [--grace-ms N] [--sandbox on|log|off] [--keep-fd N]
       kumoi-vmm --restore FILE [--restore-memory demand|all] [--config FILE] ...
       kumoi-vmm --config FILE --incoming ...
       kumoi-vmm --config FILE --upgrade-of SOCKET ...
       kumoi-vmm --control SOCKET      wait for the machine to be created over the socket
       kumoi-vmm --help | --version

  --config FILE       the machine, as JSON (docs/reference/guest-config.md)
  --restore FILE      go on from a snapshot (docs/reference/snapshot-format.md); with --config,
                      disks, interfaces and sockets are those of that file
  --restore-memory M  demand: run at once, memory comes when it is touched (the default);
                      all: read it before the first instruction
  --incoming          a machine for a guest that comes by live migration: it waits for the control
                      method migrate_incoming (docs/reference/live-migration.md)
  --upgrade-of SOCKET a machine for the guest of an older kumoi-vmm on this host, whose control
                      socket this is: with its memory, network cards and sockets; then it waits for
                      the control method upgrade_incoming (docs/reference/live-upgrade.md)
  --inherit-lock FILE with --upgrade-of: the lock on this file that the older process was given with
                      --keep-fd is held by this one, too
  --control SOCKET    listen for control requests (docs/reference/vmm-control.md)
  --serial stdio      put the serial console on this terminal; control-A x ends
  --log FILE          write the log there instead of standard error
  --log-level LEVEL   debug, info, warn or error; default info, and warn with --serial stdio
  --grace-ms N        milliseconds from SIGTERM to the end; default 30000
  --sandbox MODE      on (default); log: forbidden system calls are logged and go through; off;
                      wins over the configuration's
  --keep-fd N         leave this descriptor of the caller open (a lock); may be given again

Signals: SIGTERM and SIGINT press the guest's power button and end the process when the guest has
powered off or the grace period is over; a second one ends it at once.
Exit code: 0 the guest powered off or was told to quit, 1 it could not be started, 2 the command
line is wrong, 3 it crashed (on_crash "exit"), 4 it rebooted (on_reboot "exit").
)";

struct CommandLine {
    VmmOptions options;
    LogOptions log;
    bool level_given = false;
    bool help = false;
    bool version = false;
};

std::optional<LogLevel> parse_level(std::string_view text) {
    if (text == "debug") {
        return LogLevel::Debug;
    }
    if (text == "info") {
        return LogLevel::Info;
    }
    if (text == "warn") {
        return LogLevel::Warn;
    }
    return text == "error" ? std::optional(LogLevel::Error) : std::nullopt;
}

Result<void> take_option(CommandLine& line, std::string_view name, std::string_view value) {
    if (name == "--config") {
        line.options.config_path = value;
    } else if (name == "--control") {
        line.options.control_socket = value;
    } else if (name == "--inherit-lock") {
        line.options.inherit_lock = value;
    } else if (name == "--upgrade-of") {
        line.options.upgrade_of = value;
        line.options.incoming = true;
    } else if (name == "--restore") {
        line.options.restore_path = value;
    } else if (name == "--restore-memory") {
        if (value != "demand" && value != "all") {
            return Error::invalid("--restore-memory: \"{}\" is not demand or all", value);
        }
        line.options.restore_at_once = value == "all";
    } else if (name == "--log") {
        line.log.file = value;
    } else if (name == "--serial") {
        if (value != "stdio") {
            return Error::invalid("--serial: \"{}\" is not \"stdio\"", value);
        }
        line.options.serial_stdio = true;
    } else if (name == "--sandbox") {
        line.options.sandbox = TRY_CONTEXT(sandbox_mode(value), "--sandbox");
    } else if (name == "--keep-fd") {
        int fd = -1;
        const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), fd);
        if (error != std::errc() || end != value.data() + value.size() || fd < 0) {
            return Error::invalid("--keep-fd: \"{}\" is not a descriptor", value);
        }
        line.options.kept_descriptors.push_back(fd);
    } else if (name == "--log-level") {
        const auto level = parse_level(value);
        if (!level) {
            return Error::invalid("--log-level: \"{}\" is not debug, info, warn or error", value);
        }
        line.log.level = *level;
        line.level_given = true;
    } else if (name == "--grace-ms") {
        const auto [end, error] =
            std::from_chars(value.data(), value.data() + value.size(), line.options.grace_ms);
        if (error != std::errc() || end != value.data() + value.size() ||
            line.options.grace_ms < 0) {
            return Error::invalid("--grace-ms: \"{}\" is not a number of milliseconds", value);
        }
    } else {
        return Error::invalid("unknown option {}", name).with_hint("see kumoi-vmm --help");
    }
    return {};
}

Result<CommandLine> parse_command_line(int argc, char** argv) {
    CommandLine line;
    for (int i = 1; i < argc; ++i) {
        std::string_view name = argv[i];
        if (name == "--help" || name == "-h") {
            line.help = true;
            return line;
        }
        if (name == "--version") {
            line.version = true;
            return line;
        }
        if (const size_t equals = name.find('='); equals != std::string_view::npos) {
            TRY(take_option(line, name.substr(0, equals), name.substr(equals + 1)));
            continue;
        }
        if (name == "--incoming") {
            line.options.incoming = true;
            continue;
        }
        if (i + 1 >= argc) {
            return Error::invalid("{} needs a value, or is unknown", name)
                .with_hint("see kumoi-vmm --help");
        }
        TRY(take_option(line, name, argv[++i]));
    }
    if (line.options.config_path.empty() && line.options.control_socket.empty() &&
        line.options.restore_path.empty()) {
        return Error::invalid("neither --config nor --control nor --restore is given")
            .with_hint("see kumoi-vmm --help");
    }
    if (line.options.incoming &&
        (line.options.config_path.empty() || !line.options.restore_path.empty())) {
        return Error::invalid("--incoming and --upgrade-of need --config, and no --restore");
    }
    if (line.options.serial_stdio && !line.level_given) {
        line.log.level = LogLevel::Warn;  // the terminal is the guest's
    }
    return line;
}

int fail(const Error& error, VmExit code) {
    std::fprintf(stderr, "kumoi-vmm: %s\n", error.text().c_str());
    return static_cast<int>(code);
}

int run(int argc, char** argv) {
    auto line = parse_command_line(argc, argv);
    if (!line) {
        return fail(line.error(), VmExit::Usage);
    }
    if (line->help) {
        std::fputs(kHelp, stdout);
        return 0;
    }
    if (line->version) {
        std::printf("kumoi-vmm %s\n", kVersion);
        return 0;
    }
    if (line->options.sandbox != SandboxMode::Off) {
        close_inherited_descriptors(line->options.kept_descriptors);
    }
    if (auto started = log_init(line->log); !started) {
        return fail(started.error(), VmExit::Failed);
    }
    const SystemClock clock;
    SystemRandom random;
    EventLoop loop(clock);
    PassedFiles files(&direct_files());
    VmmProcess process(line->options, loop, clock, random, files);
    process.extend([](ProcessExtension::Process parts) {
        return std::make_unique<migration::MigrationControl>(std::move(parts));
    });
    auto started = process.prepare_signals();
    if (started) {
        started = process.start();
    }
    if (!started) {
        return fail(started.error(), VmExit::Failed);
    }
    const VmExit code = process.run();
    log_flush();
    return static_cast<int>(code);
}

}  // namespace
}  // namespace kumoi::hypervisor

int main(int argc, char** argv) {
    return kumoi::hypervisor::run(argc, argv);
}
