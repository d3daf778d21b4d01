#include "tests/functional/network/namespace_lab.h"

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <thread>

#include "base/assert.h"
#include "base/file.h"
#include "base/subprocess.h"

namespace kumoi::test {

Result<void> enter_private_world() {
    if (::geteuid() != 0) {
        return Error::forbidden("not root");
    }
    for (const char* program : {"ip", "nft", "dnsmasq", "busybox", "socat"}) {
        TRY(find_program(program));
    }
    if (::unshare(CLONE_NEWNET | CLONE_NEWNS) != 0) {
        return Error::from_errno(errno, "unshare");
    }
    if (::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) {
        return Error::from_errno(errno, "making mounts private");
    }
    // `ip netns` keeps its names here; a private tmpfs takes them along when we go.
    TRY(make_directories("/run/netns"));
    if (::mount("tmpfs", "/run/netns", "tmpfs", 0, nullptr) != 0) {
        return Error::from_errno(errno, "mounting /run/netns");
    }
    TRY(run_checked({"ip", "link", "set", "lo", "up"}));
    return {};
}

Result<compute::NetworkSpec> RecordsFake::node_network(const std::string& network_id) {
    const auto found = networks.find(network_id);
    return found == networks.end() ? Result<compute::NetworkSpec>(Error::not_found("no network"))
                                   : found->second;
}

Result<compute::PortSpec> RecordsFake::node_port(const std::string& port_id) {
    const auto found = ports.find(port_id);
    return found == ports.end() ? Result<compute::PortSpec>(Error::not_found("no port"))
                                : found->second;
}

Result<std::vector<std::string>> RecordsFake::security_group_addresses(const std::string& id) {
    return groups[id];
}

Result<void> RecordsFake::port_plugged(const std::string& port_id, bool is_plugged) {
    plugged[port_id] = is_plugged;
    return {};
}

Guest::Guest(std::string name, const std::string& tap, const std::string& mac)
    : name_(std::move(name)) {
    const std::string peer = "p" + tap.substr(2);
    for (const std::vector<std::string>& command : std::vector<std::vector<std::string>>{
             {"ip", "netns", "add", name_},
             {"ip", "link", "add", tap, "type", "veth", "peer", "name", peer},
             {"ip", "link", "set", peer, "netns", name_, "name", "eth0", "address", mac},
             {"ip", "-n", name_, "link", "set", "lo", "up"},
             {"ip", "-n", name_, "link", "set", "eth0", "up"}}) {
        const auto outcome = run_checked(command);
        KUMOI_ASSERT(outcome.ok());
    }
}

Guest::~Guest() {
    (void)run_command({"ip", "netns", "del", name_});
}

int Guest::run(std::vector<std::string> argv) const {
    argv.insert(argv.begin(), {"ip", "netns", "exec", name_});
    const auto output = run_command(argv, {.input = {}, .timeout_ms = 20'000});
    return output.ok() ? output->exit_code : -1;
}

std::string Guest::output(std::vector<std::string> argv) const {
    argv.insert(argv.begin(), {"ip", "netns", "exec", name_});
    const auto output = run_command(argv, {.input = {}, .timeout_ms = 20'000});
    return output.ok() ? output->out + output->err : output.error().text();
}

void Guest::set_address(const std::string& cidr) const {
    run({"ip", "addr", "flush", "dev", "eth0"});
    run({"ip", "addr", "add", cidr, "dev", "eth0", "nodad"});
}

bool Guest::ping(const std::string& address) const {
    return run({"busybox", "ping", "-c", "1", "-W", "1", address}) == 0;
}

bool Guest::tcp(const std::string& address, int port) const {
    const std::string target = "TCP:" + address + ":" + std::to_string(port) + ",connect-timeout=1";
    return output({"socat", "-T2", "-u", target, "STDOUT"}).find("hello") != std::string::npos;
}

std::string Guest::dhcp(const std::string& script_folder) const {
    const std::string script = script_folder + "/udhcpc-script";
    const auto written = write_file_atomic(
        script,
        "#!/bin/sh\n"
        "[ \"$1\" = bound ] || exit 0\n"
        "ip addr add \"$ip/$mask\" dev \"$interface\"\n"
        "echo \"ip=$ip mask=$mask router=$router dns=$dns mtu=$mtu routes=$staticroutes\"\n",
        0755);
    KUMOI_ASSERT(written.ok());
    return output({"busybox", "udhcpc", "-i", "eth0", "-n", "-q", "-f", "-t", "3", "-T", "1", "-O",
                   "mtu", "-O", "staticroutes", "-s", script});
}

int in_guest(const Guest& guest, const std::function<int()>& function) {
    const pid_t child = ::fork();
    if (child == 0) {
        const int fd = ::open(("/run/netns/" + guest.name()).c_str(), O_RDONLY);
        if (fd < 0 || ::setns(fd, CLONE_NEWNET) != 0) {
            ::_exit(99);
        }
        ::_exit(function());
    }
    int status = 0;
    ::waitpid(child, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

TcpServer::TcpServer(const Guest* guest, int port) {
    std::vector<std::string> argv;
    if (guest != nullptr) {
        argv = {"ip", "netns", "exec", guest->name()};
    }
    argv.insert(argv.end(),
                {"socat", "-U", "TCP-LISTEN:" + std::to_string(port) + ",fork,reuseaddr",
                 "EXEC:echo hello"});
    const auto pid = spawn_daemon(argv);
    KUMOI_ASSERT(pid.ok());
    pid_ = *pid;
    std::vector<std::string> probe;
    if (guest != nullptr) {
        probe = {"ip", "netns", "exec", guest->name()};
    }
    probe.insert(probe.end(), {"socat", "-u", "TCP:127.0.0.1:" + std::to_string(port), "STDOUT"});
    for (int i = 0; i < 100; ++i) {
        const auto output = run_command(probe, {.input = {}, .timeout_ms = 2'000});
        if (output.ok() && output->out.find("hello") != std::string::npos) {
            return;
        }
        std::this_thread::sleep_for(std::chrono::milliseconds(20));
    }
    KUMOI_ASSERT(!"the TCP server did not come up");
}

TcpServer::~TcpServer() {
    ::kill(-pid_, SIGTERM);
    ::kill(pid_, SIGTERM);
    ::waitpid(pid_, nullptr, 0);
}

}  // namespace kumoi::test
