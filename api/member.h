// Member: this node in a standalone cloud whose control plane is on another (mode = member): the
// connection to RabbitMQ, images by the controller's Image API, and one ClusterNode.
//
//     auto node = TRY(Member::create(config));
//     TRY(node->start());       // waits until the controller answers; Cancelled by a signal
//     node->run();              // until SIGTERM, SIGINT or request_stop()
//     node->stop();             // guests live on
//
// One thread owns it; request_stop() may come from any.
#pragma once

#include <memory>

#include "base/config.h"
#include "base/result.h"

namespace kumoi::api {

class Member {
public:
    static Result<std::unique_ptr<Member>> create(const Config& config);
    ~Member();
    Result<void> start();
    void run();
    void request_stop();
    void stop();

private:
    struct Parts;
    explicit Member(std::unique_ptr<Parts> parts);
    std::unique_ptr<Parts> parts_;
};

}  // namespace kumoi::api
