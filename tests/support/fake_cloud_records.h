// What a manager tells a cloud of its servers, kept for a test.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "compute/manager/cloud_records.h"
#include "tests/support/compute_fakes.h"

namespace kumoi::compute {

class FakeCloudRecords final : public CloudRecords {
public:
    explicit FakeCloudRecords(CallLog& log) : log_(log) {}
    Result<void> save_devices(const RequestContext&, const std::string& uuid,
                              const std::vector<TaggedDevice>& tagged) override {
        TRY(log_.enter("cloud.save_devices"));
        devices[uuid] = tagged;
        log_.leave();
        return {};
    }
    Result<void> check_group(const RequestContext&, const std::string&, bool on_build) override {
        TRY(log_.enter(on_build ? "cloud.check_group_of_build" : "cloud.check_group"));
        log_.leave();
        return {};
    }
    void volume_started(const RequestContext&, const std::string&, const VolumeNews& one) override {
        news.push_back(words(one) + " start");
    }
    void volume_ended(const RequestContext&, const std::string&, const VolumeNews& one,
                      const Result<void>& result) override {
        news.push_back(words(one) + (result.ok() ? " end" : " error"));
    }

    std::map<std::string, std::vector<TaggedDevice>> devices;  // by server
    std::vector<std::string> news;

private:
    static std::string words(const VolumeNews& one) {
        constexpr const char* kActions[] = {"attach ", "detach ", "swap "};
        return kActions[static_cast<int>(one.action)] + one.volume_id +
               (one.new_volume_id.empty() ? "" : " " + one.new_volume_id);
    }
    CallLog& log_;
};

}  // namespace kumoi::compute
