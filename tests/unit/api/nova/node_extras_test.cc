#include "api/nova/node_extras.h"

#include <gtest/gtest.h>

#include "api/nova/oslo_context.h"
#include "base/file.h"
#include "compute/images/image_cache.h"
#include "tests/support/compute_fakes.h"
#include "tests/support/golden_messages.h"
#include "tests/support/nova_node.h"

namespace kumoi::nova {
namespace {

class NodeExtrasTest : public testing::Test, protected test::NovaNode {
protected:
    NodeExtrasTest() : NovaNode(Release::Zed, "node extras") {}

    NodeExtras make(compute::ImageCache* cache) {
        return {conductor,
                "cmp1",
                images,
                cache,
                false,
                [this](const compute::Instance& instance) {
                    interrupted.push_back(instance.uuid);
                    return answer;
                },
                clock};
    }
    std::string adopt() {
        Json primitive = *test::golden_message(Release::Zed, "compute.stop_instance")
                              .find_path({"args", "instance"});
        auto object = NovaObject::parse(objects.table(), std::move(primitive)).value();
        return conductor.adopt(context, std::move(object))->uuid;
    }

    compute::CallLog log;
    compute::FakeImages images{log};
    TemporaryDirectory directory = TemporaryDirectory::create("extras").value();
    compute::RequestContext context = request_context(Json::object({{"request_id", "req-1"}}));
    std::vector<std::string> interrupted;
    Result<void> answer;
};

TEST_F(NodeExtrasTest, AnImageIsCachedOnce) {
    compute::ImageMeta meta;
    meta.id = "image-1";
    meta.disk_format = "raw";
    meta.container_format = "bare";
    images.add(meta, "data");
    compute::ImageCacheOptions options;
    options.directory = directory.path() + "/_base";
    compute::ImageCache cache(options, images, clock);
    ASSERT_TRUE(cache.clean_up().ok());
    NodeExtras extras = make(&cache);
    using Outcome = std::map<std::string, std::string>;
    EXPECT_EQ(extras.cache_images(context, {"image-1", "no-such"}),
              (Outcome{{"image-1", "cached"}, {"no-such", "error"}}));
    EXPECT_EQ(extras.cache_images(context, {"image-1"}), (Outcome{{"image-1", "existing"}}));
    EXPECT_EQ(make(nullptr).cache_images(context, {"image-1"}),
              (Outcome{{"image-1", "unsupported"}}));
}

TEST_F(NodeExtrasTest, ACrashDumpIsAnActionOfItsOwn) {
    const std::string uuid = adopt();
    NodeExtras extras = make(nullptr);
    ASSERT_TRUE(extras.trigger_crash_dump(context, uuid).ok());
    EXPECT_EQ(interrupted, std::vector<std::string>{uuid});
    EXPECT_EQ(rpc.calls(),
              (std::vector<std::string>{"InstanceActionEvent.event_start",
                                        "InstanceActionEvent.event_finish_with_failure"}));
    EXPECT_TRUE(rpc.sent[1].args.find("kwargs")->find("exc_val")->is_null());
}

TEST_F(NodeExtrasTest, AGuestThatIsOffIsAFault) {
    const std::string uuid = adopt();
    answer = Error::conflict("no guest runs").with_fault("InstanceNotRunning");
    NodeExtras extras = make(nullptr);
    EXPECT_FALSE(extras.trigger_crash_dump(context, uuid).ok());
    EXPECT_EQ(rpc.calls(),
              (std::vector<std::string>{"InstanceActionEvent.event_start", "InstanceFault.create",
                                        "InstanceActionEvent.event_finish_with_failure"}));
}

}  // namespace
}  // namespace kumoi::nova
