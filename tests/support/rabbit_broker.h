// RabbitBroker: a RabbitMQ of its own for one test program: free ports, its own node, epmd and data
// in a folder that is removed at the end. No systemd, no root needed, nothing shared with a broker
// of the machine. Starts in about three seconds; can be killed, frozen and started again with its
// data. One thread.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/file.h"
#include "base/result.h"

namespace kumoi::testing {

class RabbitBroker {
public:
    struct Settings {
        // Also listens with TLS when set: PEM files of the broker.
        std::string ca_file;
        std::string cert_file;
        std::string key_file;
    };
    // Nothing when this machine has no rabbitmq-server.
    static bool is_installed();
    static Result<std::unique_ptr<RabbitBroker>> start(Settings settings);
    static Result<std::unique_ptr<RabbitBroker>> start();
    ~RabbitBroker();
    RabbitBroker(const RabbitBroker&) = delete;
    RabbitBroker& operator=(const RabbitBroker&) = delete;

    uint16_t port() const { return port_; }
    uint16_t tls_port() const { return tls_port_; }
    std::string url() const;  // rabbit://guest:guest@127.0.0.1:PORT/
    const std::string& folder() const { return folder_.path(); }

    void kill();  // SIGKILL; data stay
    Result<void> start_again();
    void freeze();  // SIGSTOP
    void thaw();
    // rabbitmqctl; a second or so.
    Result<std::string> ctl(const std::vector<std::string>& arguments) const;
    // rabbitmqctl eval: one Erlang expression.
    Result<std::string> eval(const std::string& expression) const;

private:
    RabbitBroker(TemporaryDirectory folder, Settings settings);
    Result<void> write_files() const;
    Result<void> launch();
    Result<void> wait_for_port() const;
    std::vector<std::string> environment() const;

    TemporaryDirectory folder_;
    Settings settings_;
    uint16_t port_ = 0;
    uint16_t tls_port_ = 0;
    uint16_t dist_port_ = 0;
    uint16_t epmd_port_ = 0;
    pid_t pid_ = -1;  // leader of its own session
};

// A port that nobody listens on now.
uint16_t free_port();

}  // namespace kumoi::testing
