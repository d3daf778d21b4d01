// Shelving (Nova's shelve_instance, shelve_offload_instance, unshelve_instance): the root disk goes
// to an image, then, at once or later, the server leaves the host; unshelving builds it again from
// that image with its ports and addresses. A shelve that fails gives the server back as it was, an
// unshelve that fails leaves it shelved.
#pragma once

#include "compute/manager/verb.h"

namespace kumoi::compute {

// Nova's keys in system_metadata.
constexpr char kShelvedAt[] = "shelved_at";
constexpr char kShelvedImageId[] = "shelved_image_id";
constexpr char kShelvedHost[] = "shelved_host";

class ShelveTask {
public:
    ShelveTask(NodeServices& services, const Operation& operation)
        : services_(services), operation_(operation) {}

    // Offloads too when [DEFAULT] shelved_offload_time is 0. Repeating it after a crash goes on.
    Result<void> execute();

private:
    Result<void> run_steps();
    Result<void> record();
    void rollback(const Error& reason);

    NodeServices& services_;
    const Operation& operation_;
    Instance instance_;
};

Result<void> shelve_offload_task(NodeServices& services, const Operation& operation);

class UnshelveTask {
public:
    UnshelveTask(NodeServices& services, const Operation& operation)
        : services_(services), operation_(operation) {}

    Result<void> execute();
    // After a crash: a guest that was spawned is taken over, anything else undone.
    Result<void> finish_after_restart();

private:
    Result<void> run_steps();
    Result<void> record();
    void rollback(const Error& reason);

    NodeServices& services_;
    const Operation& operation_;
    Instance instance_;
    Claim claim_;
};

// A server that is on again needs its shelved image no more: removes it and the keys that named it.
void forget_shelved_image(NodeServices& services, const RequestContext& context,
                          const std::string& image_id);
Properties without_shelved_keys(Properties system_metadata);

}  // namespace kumoi::compute
