#include "api/nova/node_extras.h"

#include "base/log.h"
#include "compute/images/image_cache.h"
#include "compute/manager/verb.h"

namespace kumoi::nova {

NodeExtras::NodeExtras(NovaConductor& conductor, std::string host, compute::ImageApi& images,
                       compute::ImageCache* cache, bool keep_qcow2, Interrupt inject_nmi,
                       const Clock& clock)
    : conductor_(conductor),
      host_(std::move(host)),
      images_(images),
      cache_(cache),
      keep_qcow2_(keep_qcow2),
      inject_nmi_(std::move(inject_nmi)),
      clock_(clock) {}

// In the form that a server's root disk would take: a linked clone's base.
Result<std::string> NodeExtras::cache_image(const compute::RequestContext& context,
                                            const std::string& image_id) {
    const compute::ImageMeta meta = TRY(images_.show(context, image_id));
    const auto form = keep_qcow2_ ? compute::CacheForm::AsStored : compute::CacheForm::Raw;
    const bool was_here = cache_->has(meta, form);
    TRY(cache_->fetch(context, meta, form));
    return std::string(was_here ? "existing" : "cached");
}

std::map<std::string, std::string> NodeExtras::cache_images(
    const compute::RequestContext& context, const std::vector<std::string>& images) {
    std::map<std::string, std::string> outcome;
    for (const std::string& image : images) {
        if (cache_ == nullptr) {
            outcome[image] = "unsupported";
            continue;
        }
        auto cached = cache_image(context, image);
        if (!cached.ok()) {
            log_warn("nova", "an image could not be cached",
                     {{"image", image}, {"why", cached.error().text()}});
        }
        outcome[image] = std::move(cached).value_or("error");
    }
    return outcome;
}

Result<void> NodeExtras::trigger_crash_dump(const compute::RequestContext& context,
                                            const std::string& uuid) {
    const std::string event = "compute_trigger_crash_dump";
    TRY(conductor_.action_event_start(context, uuid, event, host_));
    const compute::Instance instance = TRY(conductor_.instance_get(uuid));
    const Result<void> sent = inject_nmi_(instance);
    if (!sent.ok()) {
        TRY(conductor_.fault_create(uuid, compute::fault_from(sent.error(), clock_)));
        TRY(conductor_.action_event_finish(context, uuid, event, sent.error()));
        return sent;
    }
    return conductor_.action_event_finish(context, uuid, event, std::nullopt);
}

}  // namespace kumoi::nova
