#include "tests/support/rabbit_broker.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <thread>

#include "base/fd.h"
#include "base/subprocess.h"

namespace kumoi::testing {
namespace {

constexpr const char* kServer = "/usr/lib/rabbitmq/bin/rabbitmq-server";
constexpr const char* kControl = "/usr/lib/rabbitmq/bin/rabbitmqctl";
constexpr auto kStartMax = std::chrono::seconds(120);
constexpr int kAttemptsMax = 3;
constexpr int kEpmdAttemptsMax = 50;

sockaddr_in loopback(uint16_t port) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return address;
}

// The broker answers a protocol header once it takes logins.
bool speaks_amqp(uint16_t port) {
    const UniqueFd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    const sockaddr_in address = loopback(port);
    if (::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0) {
        return false;
    }
    const timeval patience{1, 0};
    ::setsockopt(fd.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
    const char header[] = {'A', 'M', 'Q', 'P', 0, 0, 9, 1};
    char first = 0;
    return ::send(fd.get(), header, sizeof(header), MSG_NOSIGNAL) == sizeof(header) &&
           ::recv(fd.get(), &first, 1, 0) == 1 && first == 1;
}

}  // namespace

uint16_t free_port() {
    const UniqueFd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_in address = loopback(0);
    socklen_t size = sizeof(address);
    if (::bind(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)) != 0 ||
        ::getsockname(fd.get(), reinterpret_cast<sockaddr*>(&address), &size) != 0) {
        return 0;
    }
    return ntohs(address.sin_port);
}

bool RabbitBroker::is_installed() {
    return path_exists(kServer);
}

Result<std::unique_ptr<RabbitBroker>> RabbitBroker::start() {
    return start(Settings());
}

Result<std::unique_ptr<RabbitBroker>> RabbitBroker::start(Settings settings) {
    // Another program may take a port that was free a moment ago: then with other ports.
    for (int attempt = 1;; ++attempt) {
        TemporaryDirectory folder = TRY(TemporaryDirectory::create("kumoi-rabbit"));
        std::unique_ptr<RabbitBroker> broker(new RabbitBroker(std::move(folder), settings));
        TRY(broker->write_files());
        const Result<void> launched = broker->launch();
        if (launched.ok()) {
            return broker;
        }
        if (attempt == kAttemptsMax) {
            return launched.error();
        }
    }
}

RabbitBroker::RabbitBroker(TemporaryDirectory folder, Settings settings)
    : folder_(std::move(folder)),
      settings_(std::move(settings)),
      port_(free_port()),
      tls_port_(free_port()),
      dist_port_(free_port()),
      epmd_port_(free_port()) {}

RabbitBroker::~RabbitBroker() {
    kill();
    std::vector<std::string> argv = environment();
    argv.insert(argv.end(), {"epmd", "-port", std::to_string(epmd_port_), "-kill"});
    // It refuses to go while it believes the killed node alive, which is a moment longer.
    for (int attempt = 0; attempt < kEpmdAttemptsMax; ++attempt) {
        const auto ended = run_command(argv);
        if (ended.ok() && ended->out.find("Killed") != std::string::npos) {
            return;
        }
        std::this_thread::sleep_for(std::chrono::milliseconds(100));
    }
}

std::string RabbitBroker::url() const {
    return fmt::format("rabbit://guest:guest@127.0.0.1:{}/", port_);
}

Result<void> RabbitBroker::write_files() const {
    const std::string& path = folder_.path();
    std::string config = fmt::format(
        "listeners.tcp.1 = 127.0.0.1:{}\nloopback_users = none\nlog.console = false\n"
        "log.file.level = warning\nvm_memory_high_watermark.absolute = 512MB\n"
        "disk_free_limit.absolute = 50MB\ncollect_statistics_interval = 60000\n",
        port_);
    if (!settings_.cert_file.empty()) {
        config += fmt::format(
            "listeners.ssl.1 = 127.0.0.1:{}\nssl_options.cacertfile = {}\n"
            "ssl_options.certfile = {}\nssl_options.keyfile = {}\n"
            "ssl_options.verify = verify_peer\nssl_options.fail_if_no_peer_cert = false\n",
            tls_port_, settings_.ca_file, settings_.cert_file, settings_.key_file);
    }
    TRY(write_file_atomic(path + "/rabbitmq.conf", config));
    TRY(write_file_atomic(path + "/enabled_plugins", "[].\n"));
    TRY(write_file_atomic(path + "/env.conf", ""));
    return make_directories(path + "/mnesia");
}

std::vector<std::string> RabbitBroker::environment() const {
    const std::string& path = folder_.path();
    const auto set = [](std::string_view name, const auto& value) {
        return fmt::format("{}={}", name, value);
    };
    return {"/usr/bin/env",
            set("RABBITMQ_NODENAME", fmt::format("kumoi{}@localhost", port_)),
            set("RABBITMQ_DIST_PORT", dist_port_),
            set("RABBITMQ_BASE", path),
            set("RABBITMQ_MNESIA_BASE", path + "/mnesia"),
            set("RABBITMQ_LOG_BASE", path + "/log"),
            set("RABBITMQ_CONFIG_FILE", path + "/rabbitmq.conf"),
            set("RABBITMQ_ADVANCED_CONFIG_FILE", path + "/none"),
            set("RABBITMQ_CONF_ENV_FILE", path + "/env.conf"),
            set("RABBITMQ_ENABLED_PLUGINS_FILE", path + "/enabled_plugins"),
            set("RABBITMQ_PID_FILE", path + "/pid"),
            set("HOME", path),
            set("ERL_EPMD_PORT", epmd_port_),
            set("ERL_EPMD_ADDRESS", "127.0.0.1"),
            set("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS",
                "+S 1:1 +sbwt none +sbwtdcpu none +sbwtdio none "
                "-kernel inet_dist_use_interface {127,0,0,1}")};
}

Result<void> RabbitBroker::launch() {
    std::vector<std::string> argv = environment();
    argv.emplace_back(kServer);
    pid_ = TRY(spawn_daemon(argv, {.log_path = folder_.path() + "/output"}));
    return wait_for_port();
}

Result<void> RabbitBroker::wait_for_port() const {
    const auto end = std::chrono::steady_clock::now() + kStartMax;
    while (!speaks_amqp(port_)) {
        if (std::chrono::steady_clock::now() > end || !process_alive(pid_)) {
            const std::string said = read_file(folder_.path() + "/output").value_or("");
            return Error::timeout("RabbitMQ did not start: {}",
                                  said.substr(0, std::min<size_t>(said.size(), 600)));
        }
        std::this_thread::sleep_for(std::chrono::milliseconds(50));
    }
    return {};
}

Result<void> RabbitBroker::start_again() {
    return launch();
}

void RabbitBroker::kill() {
    if (pid_ > 0) {
        ::kill(-pid_, SIGKILL);
        ::waitpid(pid_, nullptr, 0);
        pid_ = -1;
    }
}

void RabbitBroker::freeze() {
    ::kill(-pid_, SIGSTOP);
}

void RabbitBroker::thaw() {
    ::kill(-pid_, SIGCONT);
}

Result<std::string> RabbitBroker::ctl(const std::vector<std::string>& arguments) const {
    std::vector<std::string> argv = environment();
    argv.emplace_back(kControl);
    argv.emplace_back("-q");
    argv.insert(argv.end(), arguments.begin(), arguments.end());
    return run_checked(argv);
}

Result<std::string> RabbitBroker::eval(const std::string& expression) const {
    return ctl({"eval", expression});
}

}  // namespace kumoi::testing
