// What a Vmm knows of its snapshots: the save that runs or ran last, and where memory still comes
// from after a restore. The verbs are members of Vmm, in vmm_snapshot.cc.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/json.h"
#include "base/result.h"
#include "hypervisor/block/live/overlay_set.h"
#include "hypervisor/snapshot/page_server.h"
#include "hypervisor/snapshot/save_job.h"
#include "hypervisor/vm_config.h"

namespace kumoi::hypervisor {

enum class AfterSave { Resume, Pause, Quit };

struct SaveRequest {
    std::string path;
    SaveJob::Mode mode = SaveJob::Mode::Stopped;
    Compression compression = Compression::None;
    AfterSave after = AfterSave::Resume;
    unsigned threads = 2;
    std::vector<OverlayRequest> overlays;  // entered at the moment that is saved

    // The params of the control method "save".
    static Result<SaveRequest> parse(const Json& params);
};

struct RestoreRequest {
    std::string path;
    std::optional<VmConfig> config;  // else the one in the snapshot
    bool on_demand = true;
    unsigned threads = 2;  // when not on demand
};

// The configuration that is kept in a snapshot.
Result<VmConfig> snapshot_config(UniqueFd fd, const std::string& name);

class VmmSnapshots {
public:
    enum class SaveState { Idle, Saving, Done, Failed };

    bool saving() const { return save_state == SaveState::Saving; }
    Json save_json() const;
    Json memory_json() const;

    SaveState save_state = SaveState::Idle;
    SaveRequest request;
    bool was_running = false;
    int64_t save_begun_ns = 0;
    int64_t save_took_ns = 0;
    Json overlays;           // those of the save, once they are entered; else null
    int64_t stopped_ns = 0;  // how long the guest stood still for it
    std::optional<Error> save_error;
    SaveJob::Statistics saved;  // of the job that has ended
    std::unique_ptr<SaveJob> job;
    std::unique_ptr<PageServer> pages;  // while memory is not all there
    bool memory_missing = false;        // paused because of it: a vCPU may not be able to park
    std::string restored_from;
};

}  // namespace kumoi::hypervisor
